"""``isthmus testbed bench policies``: the back-tested choice beside the policies of the field.

On 500 functions and eight hours of the Azure Functions trace of 2019, with execution taking no
time. It is played three times: with what each function's instances take; with all instances alike,
which is how the figures that others published are found again; and with the invocations spread
within their minutes, since the trace does not say where in them they came. The last is without the
forecast, which is slow to fit where no idle time is like another, and far behind.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import msgspec

from cloud_fn.functions.backtest import Against, Comparison, Trace, against, compare, read_trace
from cloud_fn.functions.backtest.compare import MARGINS
from cloud_fn.functions.backtest.show import against_table, explain
from testbed.bench.targets import Target, at_most, console, show_targets
from testbed.errors import TestbedError

TRACE = Path(__file__).resolve().parents[3] / "shared" / "data" / "azure2019"
Section = Literal["sizes", "alike", "spread"]
SECTIONS: tuple[Section, ...] = get_args(Section)
_SEED = 2019
_TITLES: dict[Section, str] = {
    "sizes": "each function at its own size",
    "alike": "all instances alike",
    "spread": "invocations spread within their minutes",
}
_RIVAL = "hybrid histogram"
_RIVALS = ("after 1, tail 99 %", "after 10, tail 99 %")

LANDMARKS = {
    ("fixed keep-alive", "10 min"): (2488, 1.00),
    ("fixed keep-alive", "60 min"): (637, 1.36),
    (_RIVAL, "after 1, tail 99 %"): (935, 0.87),
    (_RIVAL, "after 10, tail 99 %"): (665, 1.17),
}
"""Cold starts and memory that an independent simulation found (the data's README); the function is
the unit."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One way to play the trace, and ours beside every baseline in it."""

    section: Section
    comparison: Comparison
    against: tuple[Against, ...]


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """What was run."""

    parts: tuple[Part, ...]
    targets: tuple[Target, ...]


def bench_policies(
    *,
    sections: Sequence[Section] = SECTIONS,
    path: Path = TRACE,
    say: Callable[[str], None],
) -> Policies:
    """Play *sections*.

    Raises:
        TestbedError: the trace is not there.
        TraceError: it cannot be read.
    """
    if not path.exists():
        raise TestbedError(f"{path} does not exist: put the trace there, or leave this bench out")
    trace = read_trace(path)
    parts = []
    for section in sections:
        say(_TITLES[section])
        comparison = compare(
            _played(trace, section),
            margins=() if section == "spread" else MARGINS,
            say=say,
        )
        parts.append(Part(section=section, comparison=comparison, against=against(comparison)))
    targets = [target for part in parts for target in _targets(part)]
    return Policies(parts=tuple(parts), targets=tuple(targets))


def show(result: Policies) -> None:
    """Print it as tables; the chart of the first way, and of the others what ours saves."""
    wide = console()
    for at, part in enumerate(result.parts):
        wide.rule(_TITLES[part.section])
        for each in explain(part.comparison) if at == 0 else (against_table(part.comparison),):
            wide.print(each)
    show_targets(wide, result.targets)


def _played(trace: Trace, section: Section) -> Trace:
    match section:
        case "sizes":
            return trace
        case "alike":
            return trace.all_alike()
        case "spread":
            return trace.spread(_SEED)


def _targets(part: Part) -> list[Target]:
    """Fewer cold starts at no more memory, and less memory at no more cold starts."""
    found = []
    for each in part.against:
        if each.policy != _RIVAL or each.setting not in _RIVALS:
            continue
        about = f"{_TITLES[part.section]}: {_RIVAL} ({each.setting})"
        for what, ratio in (
            ("cold starts at no more memory", each.cold_ratio),
            ("memory at no more cold starts", each.memory_ratio),
        ):
            value = float("inf") if ratio is None else ratio
            found.append(at_most(f"{what} over {about}", value, 0.99, "x"))
    if part.section == "alike":
        found.append(at_most("landmarks that are not found again", _lost(part), 0))
    return found


def _lost(part: Part) -> int:
    found = {(each.policy, each.setting): each for each in part.comparison.outcomes}
    return sum(
        found[key].cold != cold or abs(found[key].memory - memory) > 0.005
        for key, (cold, memory) in LANDMARKS.items()
    )
