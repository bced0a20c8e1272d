"""The demo's result as people read it in a terminal."""

from rich.console import Console
from rich.table import Table

from protos.messages import Terms
from testbed.scenarios.demo import DemoResult

WIDTH = 132


def show(result: DemoResult) -> None:
    """Print it to stdout."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    ways = Table(title=f"{result.model} over {result.link}", title_justify="left")
    ways.add_column("way", no_wrap=True)
    for name in ("predicted ms", "measured ms", "sent kB", "answers"):
        ways.add_column(name, justify="right")
    for name in ("T_trigger", "T_init", "T_load", "T_infer", "T_response"):
        ways.add_column(name, justify="right")
    for way in result.ways:
        ways.add_row(
            f"* plan: {way.plan}" if way.chosen else way.name,
            f"{way.predicted_ms:.1f}",
            f"{way.measured_ms:.1f} ({way.fastest_ms:.0f}-{way.slowest_ms:.0f})",
            f"{way.sent_bytes / 1e3:.1f}",
            "all right" if way.right else "WRONG: " + " ".join(way.answers),
            *_cells(way.terms),
            style="bold" if way.chosen else None,
        )
    console.print(ways)
    say = console.print
    say(f"* {result.reason}")
    say(
        f"  the plan takes {result.chosen_over_best:.2f}x the best of the others; "
        f"device: {result.device}; {result.broker}"
    )
    say(
        f"  learnt in the warm-up and part of the prediction: "
        f"{result.overhead.local_ms:.1f} ms of software around a request answered on the device, "
        f"{result.overhead.remote_ms:.1f} ms around one that is sent"
    )
    cells = " + ".join(_cells(result.cold.terms))
    say(f"  first request to reach the cloud, cold: {result.cold.total_ms:.0f} ms = {cells}")
    out = result.outage
    say(
        f"link cut in the middle of a request ({out.plan}, {out.sent_bytes / 1e3:.1f} of "
        f"{out.upload_bytes / 1e3:.1f} kB sent): answered on the device after "
        f"{out.answered_ms:.0f} ms ({out.answered_mode})"
    )
    say(
        f"asked while it was down: {out.while_down_ms:.0f} ms ({out.while_down_mode}); link "
        f"restored: back to {out.back_mode} after {out.back_after_s:.1f} s by itself; "
        f"answers {'right' if out.right else 'WRONG'}"
    )
    left = ", ".join(result.left_running) or "nothing left running"
    say(f"stopped after {result.seconds:.0f} s: {left}")


def _cells(terms: Terms) -> list[str]:
    values = (terms.trigger, terms.init, terms.load, terms.infer, terms.response)
    return [f"{value:.1f}" for value in values]
