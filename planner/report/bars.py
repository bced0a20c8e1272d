"""Where the time goes: the choice, the runner-up and the baselines as stacked bars."""

from collections.abc import Iterator
from typing import NamedTuple

from planner import words
from planner.parts import Parts, in_order, parts_of
from planner.plans import Plan, PlanDocument
from planner.report.labels import text_width
from planner.report.markup import Markup, element, number

_MOST_TIMES = 5
"""Bars end at this many times the choice's, so that a far worse plan does not flatten the rest."""


class Piece(NamedTuple):
    """One part of the latency: how it is called, its colour, and the text's on it."""

    name: str
    fill: str
    on: str

    def seconds(self, parts: Parts) -> float:
        match self.fill:
            case "device":
                return parts.device_s
            case "codec":
                return parts.encode_s
            case "link":
                return parts.uplink_s
            case "trip":
                return parts.trip_s
            case "cloud":
                return parts.cloud_s
            case _:
                return parts.downlink_s


PIECES = (
    Piece("device", "device", "on"),
    Piece("encode", "codec", "on-light"),
    Piece("uplink", "link", "on-light"),
    Piece("round trip + wait", "trip", "on-light"),
    Piece("decode + cloud", "cloud", "on"),
    Piece("downlink", "down", "on-light"),
)


def shown(document: PlanDocument) -> tuple[Plan, ...]:
    """The choice, the runner-up and the baselines, the best first and what is refused last."""
    names = {document.choice, document.runner_up, *document.baselines}
    return tuple(plan for plan in in_order(document) if plan.id in names)


def chart(document: PlanDocument, *, narrow: bool = False) -> Markup:
    """The bars as one SVG, for a wide page or for a narrow one."""
    plans = shown(document)
    totals = {plan.id: parts_of(plan, document.link).total_s for plan in plans}
    longest = min(max(totals.values()), _MOST_TIMES * max(totals[document.choice], 1e-9))
    width, left, right = (376.0, 0.0, 62.0) if narrow else (992.0, 236.0, 84.0)
    row, top = (62.0, 24.0) if narrow else (46.0, 4.0)
    scale = (width - left - right) / max(longest, 1e-12)
    parts: list[Markup] = []
    for at, plan in enumerate(plans):
        y = at * row
        parts += _label(document, plan, y, narrow=narrow)
        style = "refused-bar" if plan.refused else None
        parts.append(
            element("g", *_bar(document, plan, left, y + top, scale, longest), class_=style)
        )
        end = left + min(totals[plan.id], longest) * scale
        cut = totals[plan.id] > longest * 1.001
        parts.append(
            element(
                "text",
                words.show_s(totals[plan.id]),
                x=end + (16 if cut else 8),
                y=y + top + 19,
                class_="strong" if plan.id == document.choice else None,
            )
        )
    told = "; ".join(f"{plan.id} {words.show_s(totals[plan.id])}" for plan in plans)
    return element(
        "svg",
        element("title", "Latency in pieces"),
        *parts,
        class_="narrow" if narrow else "wide",
        viewBox=f"0 0 {number(width)} {number(len(plans) * row)}",
        role="img",
        aria_label=f"Latency in pieces: {told}.",
    )


def keys() -> Markup:
    """What each colour means."""
    return element(
        "ul",
        *(
            element(
                "li",
                element(
                    "svg",
                    element("rect", width=22, height=12, rx=2, class_=f"fill-{piece.fill}"),
                    viewBox="0 0 22 12",
                    aria_hidden="true",
                ),
                piece.name,
            )
            for piece in PIECES
        ),
        class_="keys",
    )


def _label(document: PlanDocument, plan: Plan, y: float, *, narrow: bool) -> Iterator[Markup]:
    name = words.shorten(plan.id, 24 if narrow else 32)
    what = words.crosses(plan, 1) or "all on the device"
    role = {document.runner_up: "runner-up", document.choice: "the choice"}.get(plan.id, "")
    if plan.refused:
        role = "no candidate"
    if narrow:
        yield element(
            "text",
            element("tspan", name, class_="strong"),
            element("tspan", f"  {role or words.shorten(what, 30)}", class_="mute"),
            x=0,
            y=y + 17,
        )
        return
    yield element(
        "text",
        element("tspan", name, class_="strong"),
        element("tspan", f"  {role}", class_="mute"),
        x=0,
        y=y + 15,
    )
    yield element("text", words.shorten(what, 36), x=0, y=y + 31, class_="mute", font_size=11)


def _bar(
    document: PlanDocument, plan: Plan, left: float, y: float, scale: float, longest: float
) -> Iterator[Markup]:
    """One part after the other; what goes beyond *longest* ends in a torn edge."""
    parts = parts_of(plan, document.link)
    before = 0.0
    for piece in PIECES:
        seconds = piece.seconds(parts)
        begin, end = min(before, longest), min(before + seconds, longest)
        before += seconds
        if end <= begin:
            continue
        x, wide = left + begin * scale, (end - begin) * scale
        hint = f"{plan.id}: {piece.name} {words.show_s(seconds)}"
        yield element(
            "rect",
            element("title", hint),
            x=x,
            y=y,
            width=wide,
            height=28,
            class_=f"fill-{piece.fill}",
        )
        figure = words.show_s(seconds)
        if wide > text_width(figure, 12) + 6:
            yield element(
                "text", figure, x=x + wide / 2, y=y + 18, text_anchor="middle", class_=piece.on
            )
    if before > longest * 1.001:
        x = left + longest * scale
        for step in (2.0, 6.0):
            torn = f"M{number(x + step)} {number(y + 2)}l3 6l-3 6l3 6l-3 6"
            yield element("path", d=torn, class_="thin ink")
