"""The report's tables: every plan, and which is the best at which bandwidth."""

from collections.abc import Callable

from planner import words
from planner.parts import in_order, parts_of, value_of
from planner.plans import Plan, PlanDocument
from planner.report.markup import Markup, element

_Cell = Callable[[Plan], str]


def plans_table(document: PlanDocument) -> Markup:
    """One row for each plan, with its latency in pieces and whatever else was asked for."""
    best = value_of(document, document.plan(document.choice))
    columns: dict[str, _Cell] = {
        "kB": lambda p: f"{p.upload_bytes / 1e3:.1f}" if p.remote else "",
        "device": lambda p: _ms(parts_of(p, document.link).device_s),
        "codec": lambda p: _ms(p.encode_s + p.decode_s),
        "link": lambda p: _ms(parts_of(p, document.link).link_s),
        "cloud": lambda p: _ms(p.cloud_s),
        "total": lambda p: _ms(parts_of(p, document.link).total_s),
        "x best": lambda p: f"{value_of(document, p) / best:.2f}" if best > 0 else "",
        "J": lambda p: "" if p.energy_j is None else f"{p.energy_j:.3g}",
        "USD/M": lambda p: "" if p.usd is None else f"{p.usd * 1e6:.3g}",
        "frames/s": lambda p: "" if p.fps is None else f"{p.fps:.4g}",
        "drop": lambda p: "" if p.drop is None else f"{p.drop:.2%}",
        "MB here": lambda p: f"{p.device_bytes / 1e6:.2f}" if p.device_bytes else "",
    }
    plans = in_order(document)
    told = {name: cell for name, cell in columns.items() if any(map(cell, plans))}
    head = element(
        "tr",
        element("th", "plan", scope="col", class_="left"),
        element("th", "runs on", scope="col", class_="left"),
        element("th", "crosses as", scope="col", class_="left"),
        *(element("th", name, scope="col") for name in told),
    )
    rows = (_row(document, plan, [cell(plan) for cell in told.values()]) for plan in plans)
    return _scrolled(
        element(
            "table",
            element("thead", head),
            element("tbody", *rows),
        ),
        "All plans",
    )


def ranges_table(document: PlanDocument) -> Markup:
    """From which bandwidth to which a plan is the best."""
    here = document.link.up_bps
    rows = []
    for each in document.table:
        mine = each.from_bps <= here < each.to_bps
        plan = document.plan(each.plan)
        name = [plan.id]
        if mine:
            name.append(element("span", "this link", class_="tag"))
        rows.append(
            element(
                "tr",
                element("td", f"{each.from_bps / words.MEGABIT_BYTES:.4g}"),
                element("td", f"{each.to_bps / words.MEGABIT_BYTES:.4g}"),
                element("th", *name, scope="row", class_="left"),
                element("td", words.where(plan), class_="left"),
                element("td", words.crosses(plan, 3), class_="names"),
                class_="chosen" if mine else None,
            )
        )
    head = element(
        "tr",
        element("th", "from Mbps", scope="col"),
        element("th", "to Mbps", scope="col"),
        element("th", "best plan", scope="col", class_="left"),
        element("th", "runs on", scope="col", class_="left"),
        element("th", "crosses as", scope="col", class_="left"),
    )
    return _scrolled(
        element("table", element("thead", head), element("tbody", *rows)), "Ranges of bandwidth"
    )


def _row(document: PlanDocument, plan: Plan, cells: list[str]) -> Markup:
    name = [plan.id]
    role = {document.runner_up: "runner-up", document.choice: "choice"}.get(plan.id)
    if role:
        name.append(element("small", role))
    crosses = [words.crosses(plan, 3)]
    if plan.refused:
        crosses.append(element("small", f"no candidate: {plan.refused}"))
    style = "chosen" if plan.id == document.choice else "refused" if plan.refused else None
    return element(
        "tr",
        element("th", *name, scope="row", class_="left"),
        element("td", words.where(plan), class_="left"),
        element("td", *crosses, class_="names"),
        *(element("td", cell) for cell in cells),
        class_=style,
    )


def _scrolled(table: Markup, label: str) -> Markup:
    """A table that scrolls by itself where it is wider than the page."""
    return element("div", table, class_="scroll", role="region", aria_label=label, tabindex="0")


def _ms(seconds: float) -> str:
    milliseconds = seconds * 1e3
    if milliseconds == 0:
        return "0"
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:,.1f}"
