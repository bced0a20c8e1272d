"""A storm's result as people read it in a terminal."""

from rich.console import Console
from rich.table import Table

from testbed.scenarios.storm.result import StormResult, Terms

WIDTH = 132


def show(result: StormResult) -> None:
    """Print it to stdout."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=WIDTH, highlight=False)
    table = Table(
        title=f"{len(result.functions)} functions for {result.seconds:g} s, {result.pattern}; "
        f"{result.kills} instances killed, {result.kills_of_busy} of them at work",
        title_justify="left",
    )
    table.add_column("function", no_wrap=True)
    names = ("calls", "right", "refused", "lost", "doubled", "wrong", "unclear", "cold")
    for name in (*names, "p50 ms", "p95 ms", "T_init", "T_load"):
        table.add_column(name, justify="right")
    for row in result.functions:
        counts = (row.requests, row.right, row.refused)
        bad = (row.lost, row.doubled, row.wrong, row.unclear)
        table.add_row(
            row.name,
            *map(str, (*counts, *bad)),
            f"{row.cold_share:.1%}",
            *map(_ms, (row.p50_ms, row.p95_ms, row.init_ms, row.load_ms)),
            style="bold" if any(bad) else None,
        )
    console.print(table)
    for each in result.reasons:
        console.print(f"{each.calls:6} {each.reason}")
    if result.terms is not None:
        console.print(_added_up(result.terms))
    after = "answered rightly" if result.recovered else "did NOT answer rightly"
    console.print(f"asked once more when it was over, every function {after}")
    if result.strays:
        console.print(f"{result.strays} outcomes of calls that nobody made")
    if result.tracebacks:
        console.print(f"the server's log has {result.tracebacks} tracebacks (--keep DIR)")
    console.print(", ".join(result.left_running) or "nothing left running", soft_wrap=True)


def _added_up(terms: Terms) -> str:
    return (
        f"the five terms: {terms.terms_ms:.2f} of the {terms.measured_ms:.2f} ms that callers "
        f"measured, the network {terms.network_ms:.2f}, and {terms.gap:.1%} unaccounted for; "
        f"{terms.within:.0%} of {terms.answers} answers within 5 % each"
    )


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
