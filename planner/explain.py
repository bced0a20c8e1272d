"""Plans as people read them in a terminal: the choice and why, and all it was chosen from."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from planner import words
from planner.parts import in_order, parts_of, value_of
from planner.plans import Plan, PlanDocument
from planner.terminal import Bar, Ink, Legend, Stretch, on_log_scale

_BAR = 36
_SCALE = 34
_MOST_TIMES = 4
"""Bars end at this many times the choice: a far worse plan must not flatten the others."""

_DEVICE = Ink(style="blue", block="█", plain="#")
_CODEC = Ink(style="cyan", block="▓", plain="%")
_LINK = Ink(style="yellow", block="░", plain=".")
_CLOUD = Ink(style="green", block="▒", plain="=")
_LEGEND = Legend({"device": _DEVICE, "codec": _CODEC, "link": _LINK, "cloud": _CLOUD})


def explain_plan(document: PlanDocument) -> Iterator[RenderableType]:
    """The choice and why, its gain, every other way beside it, the proof, and the plan table."""
    chosen, against = words.reason_parts(document)
    title = f"{document.model} over {words.show_link(document)}, for {document.objective}"
    yield Text(title, style="bold")
    yield Text()
    yield _fact(document.choice, chosen, style="bold green")
    for clause in against:
        yield _fact("", clause)
    yield _fact("gain", words.gain_in_words(document))
    yield _plans(document)
    for plan in document.plans:
        if plan.refused:
            yield Text(f"  {plan.id} is no candidate: {plan.refused}", style="dim")
    yield _pictures(document)
    yield from _facts(document)
    yield _ranges(document)


def _facts(document: PlanDocument) -> Iterator[RenderableType]:
    proof = words.certificate_in_words(document.certificate, document.objective)
    yield _fact("certificate", proof)
    other = document.plan(document.runner_up)
    if other.id == document.choice:
        yield _fact("runner-up", "none: nothing else is allowed")
    else:
        value = words.show_value(value_of(document, other), document.objective)
        yield _fact("runner-up", f"{other.id}, {value}")
    yield _fact("stays best", words.stays_best(document))
    if text := words.table_in_words(document):
        yield _fact("plan table", text)
    if text := words.sending_in_words(document):
        yield _fact("sent", text)
    for limit in document.limits:
        yield _fact("limit", limit)
    if text := words.mixture_in_words(document):
        yield _fact("in flight", text)
    if text := words.load_in_words(document):
        yield _fact("cloud's load", text)


def _plans(document: PlanDocument) -> Table:
    """One row for each plan: where it runs, what crosses, and its latency in pieces."""
    table = _table()
    for name in ("", "plan", "runs on"):
        table.add_column(name, no_wrap=True)
    table.add_column("crosses as", overflow="fold", ratio=1)
    for name in ("kB", "device", "codec", "link", "cloud", "total ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for plan in in_order(document):
        parts = parts_of(plan, document.link)
        table.add_row(
            _mark(document, plan),
            Text(words.shorten(plan.id, 16)),
            words.where(plan),
            Text(words.crosses(plan, 2)),
            f"{plan.upload_bytes / 1e3:.1f}" if plan.remote else "",
            _ms(parts.device_s),
            _ms(plan.encode_s + plan.decode_s),
            _ms(parts.link_s),
            _ms(plan.cloud_s),
            _ms(parts.total_s),
            style=_style(document, plan),
        )
    return table


def _pictures(document: PlanDocument) -> Table:
    """The same plans as stacked bars, with what else was asked for."""
    plans = in_order(document)
    table = _table()
    table.add_column("", no_wrap=True)
    table.add_column("plan", no_wrap=True)
    table.add_column(_LEGEND, no_wrap=True)
    for name in ("ms", "x best"):
        table.add_column(name, justify="right", no_wrap=True)
    extras = {
        "J": [f"{p.energy_j:.3g}" if p.energy_j is not None else "" for p in plans],
        "USD/M": [f"{p.usd * 1e6:.3g}" if p.usd is not None else "" for p in plans],
        "frames/s": [f"{p.fps:.4g}" if p.fps is not None else "" for p in plans],
        "drop": [f"{p.drop:.2%}" if p.drop is not None else "" for p in plans],
    }
    told = {name: cells for name, cells in extras.items() if any(cells)}
    for name in told:
        table.add_column(name, justify="right", no_wrap=True)
    totals = {p.id: parts_of(p, document.link).total_s for p in plans}
    longest = max(min(max(totals.values()), _MOST_TIMES * totals[document.choice]), 1e-9)
    for at, plan in enumerate(plans):
        total = totals[plan.id]
        table.add_row(
            _mark(document, plan),
            Text(words.shorten(plan.id, 16)),
            _bar(document, plan, longest),
            _ms(total),
            _times(document, plan),
            *(cells[at] for cells in told.values()),
            style=_style(document, plan),
        )
    return table


def _bar(document: PlanDocument, plan: Plan, longest: float) -> Bar:
    parts, scale = parts_of(plan, document.link), _BAR / longest
    inked = (
        (_DEVICE, parts.device_s),
        (_CODEC, parts.encode_s + plan.decode_s),
        (_LINK, parts.link_s),
        (_CLOUD, plan.cloud_s),
    )
    return Bar(
        [(ink, seconds * scale) for ink, seconds in inked], _BAR, cut=parts.total_s > longest * 1.01
    )


def _ranges(document: PlanDocument) -> Table:
    """Which plan is best at which bandwidth, each as a stretch of one logarithmic scale."""
    first, last = document.table[0].from_bps, document.table[-1].to_bps
    here = on_log_scale(document.link.up_bps, first, last)
    table = _table()
    for name in ("from", "to Mbps"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("best plan", no_wrap=True)
    table.add_column("over the uplink's bandwidth, this link marked")
    table.add_column("runs on", no_wrap=True)
    for each in document.table:
        mine = each.from_bps <= document.link.up_bps < each.to_bps
        stretch = Stretch(
            begin=on_log_scale(each.from_bps, first, last),
            end=on_log_scale(each.to_bps, first, last),
            mark=here if mine else None,
            width=_SCALE,
            style="green" if mine else "",
        )
        table.add_row(
            f"{each.from_bps / words.MEGABIT_BYTES:.4g}",
            f"{each.to_bps / words.MEGABIT_BYTES:.4g}",
            Text(words.shorten(each.plan, 16)),
            stretch,
            words.where(document.plan(each.plan)),
            style="bold" if mine else "",
        )
    return table


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="")


def _fact(label: str, text: str, *, style: str = "") -> RenderableType:
    """A label and its sentence, the sentence's further lines under its first."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(min_width=12, no_wrap=True, style=style)
    grid.add_column(style=style)
    grid.add_row(Text(label), Text(text))
    return grid


def _mark(document: PlanDocument, plan: Plan) -> str:
    return "*" if plan.id == document.choice else "2" if plan.id == document.runner_up else ""


def _style(document: PlanDocument, plan: Plan) -> str:
    if plan.refused:
        return "dim"
    return "bold" if plan.id == document.choice else ""


def _times(document: PlanDocument, plan: Plan) -> str:
    best = value_of(document, document.plan(document.choice))
    return f"{value_of(document, plan) / best:.2f}" if best > 0 else ""


def _ms(seconds: float) -> str:
    milliseconds = seconds * 1e3
    if milliseconds == 0:
        return "0"
    return (
        f"{milliseconds:.0f}"
        if milliseconds >= 9999.5
        else f"{milliseconds:.2f}"
        if (milliseconds < 10)
        else f"{milliseconds:.1f}"
    )
