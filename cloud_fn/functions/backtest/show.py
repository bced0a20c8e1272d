"""A comparison as people read it in a terminal: a table, and the frontier as a chart."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cloud_fn.functions.backtest.compare import OURS, Comparison, against, families
from cloud_fn.functions.backtest.score import Outcome
from planner.terminal import on_log_scale

_WIDE, _HIGH = 72, 18
_MOST_MEMORY = 1.6
MARKS = {
    "fixed keep-alive": ("f", "blue"),
    "hybrid histogram": ("h", "magenta"),
    "forecast": ("p", "yellow"),
    "greedy-dual": ("g", "cyan"),
    OURS: ("B", "bold green"),
}


def explain(comparison: Comparison) -> Iterator[RenderableType]:
    """Everything, from the table to what ours saves beside each baseline."""
    yield outcomes_table(comparison)
    yield Text(
        "Cold starts against idle memory, the cold starts logarithmic; down and left is better",
        style="bold",
    )
    yield from frontier(comparison)
    yield against_table(comparison)
    yield Text(
        "memory is idle instance time x its size, relative to a fixed keep-alive of 10 minutes; "
        "cold are cold starts, and of a quarter of the functions a greater share of the "
        "invocations is cold than p75; back-tested acts at each moment on the log before it "
        "alone; the bounds know the future",
        style="dim",
    )


def outcomes_table(comparison: Comparison) -> Table:
    """Every policy and both kinds of bounds."""
    title = (
        f"{comparison.trace}: {comparison.functions} functions, "
        f"{comparison.invocations:,} invocations in {comparison.hours:g} h"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("policy", no_wrap=True)
    table.add_column("setting", no_wrap=True)
    for name in ("cold", "p75 cold", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    for part, bound in ((comparison.outcomes, False), (comparison.bounds, True)):
        for each in part:
            style = "bold" if each.policy == OURS else "dim" if bound else ""
            name = f"(bound) {each.policy}" if bound else each.policy
            table.add_row(name, each.setting, *_figures(each), style=style)
        table.add_section()
    return table


def against_table(comparison: Comparison) -> Table:
    """What the back-tested policy makes of each baseline's memory, and of its cold starts."""
    table = Table(
        title="back-tested beside each baseline",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("baseline", no_wrap=True)
    table.add_column("setting", no_wrap=True)
    for name in ("cold", "ours at no more memory", "memory", "ours at no more cold"):
        table.add_column(name, justify="right")
    for each in against(comparison):
        cold = "none" if each.cold is None else f"{each.cold} ({each.cold_ratio:.2f}x)"
        memory = "none" if each.memory is None else f"{each.memory:.2f} ({each.memory_ratio:.2f}x)"
        table.add_row(
            each.policy, each.setting, str(each.baseline_cold), cold,
            f"{each.baseline_memory:.2f}", memory,
        )  # fmt: skip
    return table


def frontier(comparison: Comparison) -> Iterator[Text]:
    """The chart, in characters that every terminal has."""
    shown = [each for each in comparison.outcomes if each.memory <= _MOST_MEMORY]
    if not shown:
        return
    most, least = max(each.cold for each in shown), min(each.cold for each in shown)
    rows = [[(" ", "")] * (_WIDE + 1) for _ in range(_HIGH + 1)]
    for each in shown:
        down = round(_HIGH * (1 - on_log_scale(each.cold, least, most)))
        rows[down][round(_WIDE * each.memory / _MOST_MEMORY)] = MARKS[each.policy]
    for at, row in enumerate(rows):
        label = most if at == 0 else least if at == _HIGH else ""
        line = Text(f"{label!s:>7} |", no_wrap=True)
        for mark, style in row:
            line.append(mark, style=style)
        yield line
    yield Text(" " * 8 + "+" + "-" * (_WIDE + 1))
    ticks = [f"{i / 5:.1f}" for i in range(int(_MOST_MEMORY * 5) + 1)]
    step = _WIDE // (len(ticks) - 1)
    yield Text(" " * 8 + "".join(tick.ljust(step) for tick in ticks).rstrip())
    yield Text("  ").join(Text(f"{mark} {name}", style=s) for name, (mark, s) in MARKS.items())


def families_shown(comparison: Comparison) -> dict[str, tuple[Outcome, ...]]:
    """The families in the chart's range of memory."""
    return {
        name: tuple(each for each in members if each.memory <= _MOST_MEMORY)
        for name, members in families(comparison.outcomes).items()
    }


def _figures(each: Outcome) -> tuple[str, str, str]:
    return str(each.cold), f"{each.p75_cold_share:.1%}", f"{each.memory:.2f}"
