"""What a process prints, kept within bounds however much it is. No files, no clock."""

from collections import deque

_KEEP_BYTES = 64 << 10
_LINE_BYTES = 500


class BoundedLog:
    """The last of what a process printed, and its newest lines at a bounded rate."""

    def __init__(self, *, lines_per_s: int = 20) -> None:
        self._lines_per_s = lines_per_s
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._begun = b""
        self._passed: deque[str] = deque(maxlen=lines_per_s)
        self._allowed = float(lines_per_s)
        self._at_s: float | None = None
        self._left_out = 0

    def write(self, data: bytes, now_s: float) -> None:
        """Take what was printed; *now_s* is any clock that does not go back."""
        self._keep(data)
        if self._at_s is not None:
            self._allowed += (now_s - self._at_s) * self._lines_per_s
            self._allowed = min(self._allowed, self._lines_per_s)
        self._at_s = now_s
        if self._allowed < 1:  # megabytes cost no more than counting their lines
            self._left_out += data.count(b"\n")
            self._begun = (self._begun + data).rpartition(b"\n")[2][-_LINE_BYTES:]
            return
        *lines, begun = (self._begun + data).split(b"\n")
        self._begun = begun[-_LINE_BYTES:]  # a line may never end
        for line in lines:
            if self._allowed < 1:
                self._left_out += 1
                continue
            self._allowed -= 1
            if self._left_out:
                self._passed.append(f"({self._left_out} lines left out)")
                self._left_out = 0
            self._passed.append(_readable(line))

    def take(self) -> tuple[str, ...]:
        """The lines that may be passed on and were not yet."""
        taken = tuple(self._passed)
        self._passed.clear()
        return taken

    def tail(self) -> bytes:
        """The last 64 KiB."""
        return b"".join(self._kept)[-_KEEP_BYTES:]

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._kept_bytes += len(data)
        while self._kept_bytes - len(self._kept[0]) >= _KEEP_BYTES:
            self._kept_bytes -= len(self._kept.popleft())


def _readable(line: bytes) -> str:
    """One line of a log: nothing in it moves a cursor or looks like the line after."""
    text = line[:_LINE_BYTES].decode("utf-8", "replace").rstrip()
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
