"""Plans and graphs as people read them in a terminal."""

from collections.abc import Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from planner.graph import Graph, TensorInfo
from planner.model import Model
from planner.plans import Plan, PlanDocument

MEGABIT = 1e6 / 8
_BAR = 36


def explain_plan(document: PlanDocument) -> Group:
    """The choice and why, every other way beside it, and the table over bandwidth."""
    link = document.link
    totals = {
        plan.id: plan.total_s(link.up_bps, link.rtt_s, link.down_bps) for plan in document.plans
    }
    best = totals[document.choice]
    ways = Table(title=f"{document.model} over {link.name}", title_justify="left")
    for name in ("", "plan", "where", "crosses as"):
        ways.add_column(name)
    for name in ("sent kB", "device ms", "codec ms", "link ms", "cloud ms", "total ms", "x best"):
        ways.add_column(name, justify="right")
    for plan in sorted(document.plans, key=lambda plan: totals[plan.id]):
        total = totals[plan.id]
        moved = total - plan.compute_s
        mark = "*" if plan.id == document.choice else "2" if plan.id == document.runner_up else ""
        ways.add_row(
            mark,
            plan.id,
            plan.kind,
            _crossing(plan),
            f"{plan.upload_bytes / 1e3:.1f}",
            _ms(plan.device_s + plan.overhead_s),
            _ms(plan.encode_s + plan.decode_s),
            _ms(moved),
            _ms(plan.cloud_s),
            _ms(total),
            f"{total / best:.2f}" if best else "",
        )
    table = Table(title="best plan by uplink bandwidth", title_justify="left")
    table.add_column("from Mbps", justify="right")
    table.add_column("to Mbps", justify="right")
    table.add_column("plan")
    for range_ in document.table:
        here = range_.from_bps <= link.up_bps < range_.to_bps
        table.add_row(
            f"{range_.from_bps / MEGABIT:.4g}",
            f"{range_.to_bps / MEGABIT:.4g}",
            range_.plan + ("  <- this link" if here else ""),
        )
    certificate = document.certificate
    proof = Text(
        f"certificate: re-costed {certificate.cost:.6g} {certificate.unit}, and by "
        f"{certificate.method} nothing is below {certificate.bound:.6g} {certificate.unit} "
        f"(rounding {certificate.resolution:.1g}); runner-up {document.runner_up}"
    )
    notes = [Text(f"* {document.choice}: {document.reason}"), proof]
    notes += [Text(f"{p.id} is no candidate: {p.refused}") for p in document.plans if p.refused]
    return Group(ways, *notes, table)


def explain_graph(model: Model) -> Group:
    """The model's ops and tensors in figures, and its narrow places as a chart."""
    graph = model.graph
    network = sum(not op.is_step for op in graph.ops)
    lines = [
        f"{model.name}  {model.digest[:12]}  {network} ops, {len(graph.ops) - network} steps",
        "inputs   " + ", ".join(_tensor(info) for info in model.inputs),
        "outputs  " + ", ".join(_tensor(info) for info in model.outputs),
    ]
    if model.source != tuple(info.name for info in model.inputs):
        lines.append(f"starts from {', '.join(model.source)}, answers {', '.join(model.answers)}")
    if model.assumed:
        assumed = ", ".join(f"{name}={size}" for name, size in model.assumed.items())
        lines.append(f"assumed  {assumed}  (give --dim NAME=SIZE)")
    chart = Table(title="narrow places: what would cross after each", title_justify="left")
    chart.add_column("after op", justify="right")
    chart.add_column("kB", justify="right")
    chart.add_column("")
    chart.add_column("tensors")
    places = narrow_places(graph)
    most = max((nbytes for _, nbytes, _ in places), default=1) or 1
    for index, nbytes, names in places:
        chart.add_row(
            str(index),
            f"{nbytes / 1e3:.1f}",
            "#" * max(1, round(_BAR * nbytes / most)),
            ", ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more",
        )
    return Group(*(Text(line) for line in lines), chart)


def narrow_places(graph: Graph) -> list[tuple[int, int, tuple[str, ...]]]:
    """Cuts worth having, by the count of ops before them.

    In topological order, where fewer bytes cross than at every place before; and the input itself
    as the first. Bytes are those of raw tensors; places with a tensor of unknown size are left
    out.
    """
    found: list[tuple[int, int, tuple[str, ...]]] = []
    least: int | None = None
    for count in range(len(graph.ops)):
        names = graph.boundary(frozenset(range(count)))
        sizes = [graph.info(name).nbytes for name in names]
        if not names or any(size is None for size in sizes):
            continue
        total = sum(size for size in sizes if size is not None)
        if least is None or total < least:
            least = total
            found.append((count, total, names))
    return found


def show(group: Group, *, console: Console | None = None) -> None:
    """Print to the terminal, as wide as the tables need where stdout is no terminal."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(group)


def _crossing(plan: Plan) -> str:
    names: Sequence[str] = [f"{each.tensor} ({each.codec})" for each in plan.crossing]
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _tensor(info: TensorInfo) -> str:
    return f"{info.name} {info.datatype}{list(info.shape)}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}"
