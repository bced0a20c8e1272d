"""The objective against the uplink's bandwidth: every plan a line, the best of them on top."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from planner import words
from planner.parts import Curve, curve_of, in_order
from planner.plans import Plan, PlanDocument
from planner.report.axes import Scale, line
from planner.report.labels import Box, placed, spread, text_width
from planner.report.markup import Markup, element, joined, number

_MOST_TIMES = 30
"""The plot ends at this many times the best, so that a far worse plan does not flatten the rest."""

_STEPS = 96
_ROW = 16.0
_SIZE = 12.0
_BAND = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plot:
    """Where things lie, and what is drawn there."""

    document: PlanDocument
    curves: Sequence[tuple[Plan, Curve]]
    x: Scale
    y: Scale
    width: float
    height: float
    most_letters: int

    def points(self, curve: Curve, low: float, high: float) -> list[tuple[float, float]]:
        steps = max(2, round(_STEPS * (self.x(high) - self.x(low)) / (self.x.last - self.x.first)))
        paces = [low * (high / low) ** (i / steps) for i in range(steps + 1)]
        return [(self.x(bps), self.y(curve.at(bps))) for bps in paces]

    def curve(self, id_: str) -> Curve:
        return next(curve for plan, curve in self.curves if plan.id == id_)


def chart(document: PlanDocument, *, narrow: bool = False) -> Markup:
    """The chart as one SVG, for a wide page or for a narrow one."""
    plot = _plot(document, narrow=narrow)
    what = title(document)
    described = (
        f"{what}, both logarithmic. {document.choice} is the best "
        f"{words.stays_best(document)}; this link has {words.show_rate(document.link.up_bps)}."
    )
    clip = f"plot-{'narrow' if narrow else 'wide'}"
    area = element(
        "rect",
        x=plot.x.first,
        y=plot.y.last,
        width=plot.x.last - plot.x.first,
        height=plot.y.first - plot.y.last,
    )
    return element(
        "svg",
        element("title", what),
        element("defs", element("clipPath", area, id=clip)),
        _grid(plot),
        _marks(plot),
        element("g", *_lines(plot), clip_path=f"url(#{clip})"),
        _dots(plot),
        _labels(plot),
        _bands(plot),
        element("line", y1=plot.y.last, y2=plot.y.first, class_="hover"),
        class_="narrow" if narrow else "wide",
        viewBox=f"0 0 {number(plot.width)} {number(plot.height)}",
        role="img",
        aria_label=described,
        data_left=plot.x.first,
        data_right=plot.x.last,
    )


def title(document: PlanDocument) -> str:
    """What the chart shows; latency also where the objective is energy."""
    what = {"cost": "Cost per million requests", "throughput": "Frames per second"}
    return f"{what.get(document.objective, 'Latency')} against uplink bandwidth"


def data(document: PlanDocument) -> Markup:
    """The curves for the page's script, as JSON that no text in it can end."""
    value = {
        "low": document.table[0].from_bps,
        "high": document.table[-1].to_bps,
        "objective": document.objective,
        "plans": [
            {"id": plan.id, "ways": curve_of(document, plan).ways}
            for plan in in_order(document)
            if not plan.refused
        ],
    }
    encoded = json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e")
    return element("script", Markup(encoded), type="application/json", id="curves")


def _plot(document: PlanDocument, *, narrow: bool) -> _Plot:
    width, height = (376.0, 470.0) if narrow else (992.0, 500.0)
    left, right = (54.0, 112.0) if narrow else (64.0, 176.0)
    low, high = document.table[0].from_bps, document.table[-1].to_bps
    curves = [(plan, curve_of(document, plan)) for plan in in_order(document)]
    best = [curve.at(bps) for plan, curve in curves for bps in (low, high) if not plan.refused]
    values = [value for value in best if value > 0] or [1e-6]
    top = max(_envelope(document, curves)) or max(values)
    lowest, highest = min(values) / 1.5, min(max(values), top * _MOST_TIMES) * 1.5
    upside_down = document.objective == "throughput"
    bottom = height - 44 - _BAND
    return _Plot(
        document=document,
        curves=curves,
        x=Scale(low=low, high=high, first=left, last=width - right, log=True),
        y=Scale(
            low=highest if upside_down else lowest,
            high=lowest if upside_down else highest,
            first=bottom,
            last=46.0,
            log=True,
        ),
        width=width,
        height=height,
        most_letters=13 if narrow else 24,
    )


def _envelope(document: PlanDocument, curves: Sequence[tuple[Plan, Curve]]) -> list[float]:
    known = {plan.id: curve for plan, curve in curves}
    return [
        known[each.plan].at(bps) for each in document.table for bps in (each.from_bps, each.to_bps)
    ]


def _grid(plot: _Plot) -> Markup:
    most = 14 if plot.width > 500 else 6
    low, high = (bps / words.MEGABIT_BYTES for bps in (plot.x.low, plot.x.high))
    parts = []
    for mbps in Scale(low=low, high=high, first=0, last=1, log=True).ticks(most):
        x = plot.x(mbps * words.MEGABIT_BYTES)
        parts += [
            element("line", x1=x, x2=x, y1=plot.y.last, y2=plot.y.first, class_="grid"),
            element(
                "text",
                f"{mbps:g}",
                x=x,
                y=plot.y.first + _BAND + 20,
                text_anchor="middle",
                class_="mute",
            ),
        ]
    for value, label in _levels(plot):
        y = plot.y(value)
        parts += [
            element("line", x1=plot.x.first, x2=plot.x.last, y1=y, y2=y, class_="grid"),
            element("text", label, x=plot.x.first - 8, y=y + 4, text_anchor="end", class_="mute"),
        ]
    middle = (plot.x.first + plot.x.last) / 2
    below = plot.y.first + _BAND + 38
    parts.append(
        element("text", "uplink, Mbps", x=middle, y=below, text_anchor="middle", class_="mute")
    )
    return element("g", *parts)


def _levels(plot: _Plot) -> list[tuple[float, str]]:
    """The y axis's ticks with their labels."""
    objective = plot.document.objective
    if objective == "throughput":
        scale = Scale(low=1 / plot.y.low, high=1 / plot.y.high, first=0, last=1, log=True)
        return [(1 / fps, f"{fps:g} fps") for fps in scale.ticks(10)]
    low, high = sorted((plot.y.low, plot.y.high))
    factor = 1e6 if objective == "cost" else 1.0
    scale = Scale(low=low * factor, high=high * factor, first=0, last=1, log=True)
    if objective == "cost":
        return [(value / factor, f"${value:g}") for value in scale.ticks(10)]
    return [(value, words.show_s(value)) for value in scale.ticks(10)]


def _lines(plot: _Plot) -> list[Markup]:
    """The envelope, and over it every plan; what matters most comes last."""
    document = plot.document
    best = [
        point
        for each in document.table
        for point in plot.points(plot.curve(each.plan), each.from_bps, each.to_bps)
    ]
    on_top = {each.plan for each in document.table}
    parts = []
    if document.objective != "energy":
        parts.append(
            element(
                "path",
                element("title", "the best at each bandwidth"),
                d=line(best),
                class_="envelope",
            )
        )
    for plan, curve in reversed(plot.curves):
        style = ["curve", plan.kind]
        if plan.refused:
            style.append("refused")
        elif plan.id in document.baselines:
            style.append("baseline")
        if plan.id in on_top:
            style.append("best")
        hint = f"{plan.id}: {words.crosses(plan, 3) or 'all on the device'}"
        if plan.refused:
            hint += f" (no candidate: {plan.refused})"
        path = line(plot.points(curve, plot.x.low, plot.x.high))
        parts.append(element("path", element("title", hint), d=path, class_=" ".join(style)))
    return parts


def _marks(plot: _Plot) -> Markup:
    """Where the best plan changes, and this link's bandwidth, each named above the plot."""
    document = plot.document
    top, bottom = plot.y.last, plot.y.first + _BAND
    here = plot.x(document.link.up_bps)
    parts = []
    taken = -1e9
    for before, _ in pairwise(document.table):
        x = plot.x(before.to_bps)
        label = f"{before.to_bps / words.MEGABIT_BYTES:.3g}"
        parts.append(element("line", x1=x, x2=x, y1=top - 6, y2=bottom, class_="break"))
        half = text_width(label, _SIZE) / 2
        if x - half > taken and abs(x - here) > half + 3:
            parts.append(
                element("text", label, x=x, y=top - 10, text_anchor="middle", class_="mute")
            )
            taken = x + half + 6
    name = "this link" if "bps" in document.link.name.lower() else document.link.name
    label = f"{words.shorten(name, 28)}, {words.show_rate(document.link.up_bps)}"
    half = text_width(label, _SIZE) / 2
    at = min(max(here, half), plot.width - half)
    parts += [
        element("line", x1=here, x2=here, y1=top - 24, y2=bottom, class_="here"),
        element("text", label, x=at, y=top - 30, text_anchor="middle", class_="strong"),
    ]
    return element("g", *parts)


def _dots(plot: _Plot) -> Markup:
    """A dot where the best plan changes, a full one for the choice, and one for the mixture."""
    document = plot.document
    spots = []
    if document.objective != "energy":
        for before, _ in pairwise(document.table):
            y = plot.y(plot.curve(before.plan).at(before.to_bps))
            spots.append((plot.x(before.to_bps), y))
    parts = [element("circle", cx=x, cy=y, r=3.5, class_="dot") for x, y in spots]
    up_bps = document.link.up_bps
    chosen = (plot.x(up_bps), plot.y(plot.curve(document.choice).at(up_bps)))
    parts.append(element("circle", cx=chosen[0], cy=chosen[1], r=5, class_="chosen"))
    mixture = document.mixture
    if mixture is not None and mixture.fps > 0 and len(mixture.shares) > 1:
        parts += _mixed(plot, mixture.fps, [*spots, chosen])
    return element("g", *parts)


def _mixed(plot: _Plot, fps: float, dots: Sequence[tuple[float, float]]) -> list[Markup]:
    """The mixture's diamond, and its name within the plot, on none of the *dots*."""
    x, y = plot.x(plot.document.link.up_bps), plot.y(1 / fps)
    text = f"mixture {fps:.3g} fps"
    diamond = f"M{number(x - 6)} {number(y)}l6 -6l6 6l-6 6z"
    area = Box(plot.x.first, plot.y.last, plot.x.last, plot.y.first)
    taken = [Box(left - 5, top - 5, left + 5, top + 5) for left, top in dots]
    label = placed(text, (x, y), _SIZE, area, taken)
    drawn = [element("path", element("title", text), d=diamond, class_="dot")]
    return [*drawn, label.drawn("strong", _SIZE)] if label else drawn


def _labels(plot: _Plot) -> Markup:
    """Each plan's name at its line's right end, moved apart, with a thin lead to the line."""
    document = plot.document
    room = plot.y.first - plot.y.last
    first = {document.choice, document.runner_up, *(each.plan for each in document.table)}
    ranked = sorted(plot.curves, key=lambda pair: (pair[0].id not in first, bool(pair[0].refused)))
    shown = ranked[: int(room / _ROW)]
    ends = [min(max(plot.y(c.at(plot.x.high)), plot.y.last), plot.y.first) for _, c in shown]
    places = spread(ends, _ROW, plot.y.last + 4, plot.y.first - 4)
    parts = []
    for (plan, _), end, place in zip(shown, ends, places, strict=True):
        x = plot.x.last
        path = f"M{number(x)} {number(end)}L{number(x + 8)} {number(place)}h6"
        style: list[str] = ["refused" if plan.refused else plan.kind]
        if plan.id == document.choice:
            style.append("strong")
        parts += [
            element("path", d=path, class_="lead"),
            element(
                "text",
                element("title", plan.id),
                words.shorten(plan.id, plot.most_letters),
                x=x + 18,
                y=place + 4,
                class_=" ".join(style),
            ),
        ]
    return element("g", *parts)


def _bands(plot: _Plot) -> Markup:
    """Under the plot, which plan is the best at each bandwidth."""
    parts = []
    for each in plot.document.table:
        plan = plot.document.plan(each.plan)
        left, right = plot.x(each.from_bps), plot.x(each.to_bps)
        hint = f"{plan.id} from {words.show_rate(each.from_bps)} to {words.show_rate(each.to_bps)}"
        parts.append(
            element(
                "rect",
                element("title", hint),
                x=left,
                y=plot.y.first + 1,
                width=max(right - left, 0.5),
                height=_BAND - 2,
                class_=f"band {plan.kind}",
            )
        )
        if right - left > text_width(plan.id, 11) + 8:
            parts.append(
                element(
                    "text",
                    plan.id,
                    x=(left + right) / 2,
                    y=plot.y.first + 14,
                    font_size=11,
                    text_anchor="middle",
                    class_="on",
                )
            )
    return joined(*parts)
