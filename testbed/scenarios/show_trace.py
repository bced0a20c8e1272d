"""A drive's result as people read it in a terminal."""

from rich.console import Console
from rich.table import Table

from testbed.scenarios.trace import Change, TraceResult

WIDTH = 120
TOLD_S = 0.1
"""A change is told of this much after the answer that brought it about, at most."""


def show(result: TraceResult) -> None:
    """Print it to stdout: the answers with the changes of plan between them, then the sums."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    table = Table(title=f"{result.model} along {result.trace}", title_justify="left")
    for name in ("s", "trace Mbps", "estimate Mbps"):
        table.add_column(name, justify="right")
    table.add_column("plan", no_wrap=True)
    table.add_column("ms", justify="right")
    table.add_column("answer")
    waiting = list(result.changes)
    for asked in result.asked:
        while waiting and waiting[0].at_s <= asked.at_s + TOLD_S:
            table.add_row(*_change(waiting.pop(0)), style="bold")
        table.add_row(
            f"{asked.at_s:.1f}",
            f"{asked.trace_mbps:.2f}",
            f"{asked.estimate_mbps:.2f}",
            asked.plan + (" (finished here)" if asked.mode == "fallback" else ""),
            f"{asked.ms:.0f}",
            "right" if asked.right else "WRONG",
        )
    for change in waiting:
        table.add_row(*_change(change), style="bold")
    console.print(table)
    say = console.print
    ranges = ", ".join(f"{name} from {mbps:g} Mbps" for name, mbps in result.table)
    say(f"planned: {ranges}; device: {result.device}; {result.broker}")
    right = sum(change.right for change in result.changes)
    say(f"changes of plan: {len(result.changes)}, at a breakpoint of the table: {right}")
    say(
        f"following the table: median {result.measured.median_ms:.0f} ms, mean "
        f"{result.measured.mean_ms:.0f} (predicted {result.predicted.median_ms:.0f} and "
        f"{result.predicted.mean_ms:.0f})"
    )
    for alone in result.alone:
        say(
            f"  {alone.plan} alone: median {alone.median_ms:.0f} ms, mean {alone.mean_ms:.0f} "
            "(predicted)"
        )
    left = ", ".join(result.left_running)
    say(f"left running: {left}" if left else "nothing is left running")


def _change(change: Change) -> tuple[str, ...]:
    beyond = (
        "no breakpoint: on the table no more"
        if change.breakpoint_mbps is None
        else f"breakpoint {change.breakpoint_mbps:.2f} Mbps"
    )
    verdict = "" if change.right else ", WRONG"
    return (
        f"{change.at_s:.1f}",
        "",
        f"{change.estimate_mbps:.2f}",
        f"-> {change.after}",
        "",
        f"{beyond}{verdict}",
    )
