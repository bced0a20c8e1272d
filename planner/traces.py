"""Link traces in Mahimahi's format: when a real radio let a packet through.

One line is one opportunity to send a packet of 1500 bytes, in milliseconds from the start; when
the trace ends it starts again. Source: Netravali et al., USENIX ATC 2015, ``mm-link``.
"""

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path

from planner.errors import LinkError

PACKET_BYTES = 1500
WINDOW_S = 1.0
"""Over less than this a cellular link's packets come in bursts rather than at a bandwidth."""

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Far above any recorded trace, so that a wrong path does not fill the memory."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Packet opportunities, in ms from the start, none before the one above it.

    ``path`` is where it was read from, None for one made in memory; it is not part of equality.
    """

    opportunities_ms: tuple[int, ...]
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        times = self.opportunities_ms
        if not times or times[0] < 0 or times[-1] <= 0:
            raise ValueError("a trace needs an opportunity after 0 ms, and none before 0 ms")
        if any(later < earlier for earlier, later in itertools.pairwise(times)):
            raise ValueError("a trace's opportunities must be in order")

    @property
    def period_s(self) -> float:
        """Where it starts again: the last opportunity's time, as in Mahimahi."""
        return self.opportunities_ms[-1] / 1000

    @property
    def average_bps(self) -> float:
        """Bytes per second over one period."""
        return len(self.opportunities_ms) * PACKET_BYTES / self.period_s

    def windows_bps(self, window_s: float = WINDOW_S) -> tuple[float, ...]:
        """Bytes per second in each window of one period; the last, cut short, is left out."""
        count = max(1, math.floor(self.period_s / window_s))
        packets = [0] * count
        for time_ms in self.opportunities_ms:
            at = int(time_ms / 1000 / window_s)
            if at < count:
                packets[at] += 1
        return tuple(n * PACKET_BYTES / window_s for n in packets)

    def quantile_bps(self, quantile: float, window_s: float = WINDOW_S) -> float:
        """What the trace falls short of in *quantile* of its windows, at least one packet each."""
        windows = sorted(self.windows_bps(window_s))
        at = min(int(quantile * len(windows)), len(windows) - 1)
        return max(windows[at], PACKET_BYTES / window_s)


def read_trace(path: Path) -> Trace:
    """Read a trace file.

    Raises:
        LinkError: no such file, or no Mahimahi trace; the message names the line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise LinkError(f"link trace {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise LinkError(f"link trace {path} is larger than {MAX_FILE_BYTES} bytes: it is no trace")
    return parse_trace(data, path)


def parse_trace(data: bytes, path: Path | None = None) -> Trace:
    """Parse the bytes of a trace file; blank lines are skipped.

    Raises:
        LinkError: a line is no whole number of milliseconds, goes back in time, or there is none.
    """
    what = f"link trace {path}" if path else "link trace"
    times: list[int] = []
    for number, raw in enumerate(data.splitlines(), start=1):
        line = raw.strip()
        if not line:
            continue
        if not line.isdigit() or len(line) > 12:
            shown = line[:20].decode("ascii", "replace")
            raise LinkError(
                f"{what}, line {number}: {shown!r} is no whole number of milliseconds, "
                "one packet opportunity a line"
            )
        time_ms = int(line)
        if times and time_ms < times[-1]:
            raise LinkError(
                f"{what}, line {number}: {time_ms} ms is before {times[-1]} ms above it"
            )
        times.append(time_ms)
    if not times or times[-1] == 0:
        raise LinkError(f"{what} has no packet opportunity after 0 ms: it carries nothing")
    return Trace(tuple(times), path)


def write_trace(trace: Trace, path: Path) -> None:
    """Write *trace* in Mahimahi's format, a millisecond a line."""
    path.write_text("".join(f"{ms}\n" for ms in trace.opportunities_ms))
