"""Along the graph: what would cross at each place, and what cutting there would take."""

from collections.abc import Iterator
from typing import NamedTuple

from planner import words
from planner.parts import parts_of
from planner.plans import PlanDocument
from planner.report.axes import Scale
from planner.report.labels import Box, placed, text_width
from planner.report.markup import Markup, element, number
from planner.report.panels import Panel
from planner.report.walk import Walk

_SIZE = 11.5


class _Panels(NamedTuple):
    sent: Panel
    work: Panel
    latency: Panel


def chart(document: PlanDocument, walk: Walk, *, narrow: bool = False) -> Markup:
    """Bytes, work and latency over the ops, as one SVG for a wide page or for a narrow one."""
    width, left, right = (376.0, 58.0, 16.0) if narrow else (992.0, 64.0, 24.0)
    x = Scale(low=0, high=walk.places - 1, first=left, last=width - right)
    panels = _panels(document, walk, x, narrow=narrow)
    bottom = panels.latency.y.first
    what = "Bytes and time along the graph"
    places = "; ".join(f"{_size(walk, at)} after op {at}" for at in walk.named)
    return element(
        "svg",
        element("title", what),
        *(part for panel in panels for part in panel.sides(x(walk.cut))),
        *(part for panel in panels for part in panel.frame()),
        _title(walk, x, panels.sent.y.last - 34),
        *_sent(walk, panels.sent, letters=16 if narrow else 28),
        *_work(walk, panels.work),
        *_latency(document, walk, panels.latency),
        *_foot(x, bottom, narrow=narrow),
        class_="narrow" if narrow else "wide",
        viewBox=f"0 0 {number(width)} {number(bottom + 44)}",
        role="img",
        aria_label=f"{what}. {_cut_in_words(walk)}; narrow places: {places}.",
    )


def _panels(document: PlanDocument, walk: Walk, x: Scale, *, narrow: bool) -> _Panels:
    sizes = [size for size in walk.sent_bytes if size] or [1]
    most_s = max(walk.device_s[-1], walk.cloud_s[0], 1e-9)
    values = [value for value in (*walk.latency_s, _mine(document)) if value] or [1.0]
    return _Panels(
        sent=Panel(
            title="would cross, by the best lossless codec",
            x=x,
            y=Scale(low=min(sizes) / 4, high=max(sizes) * 3, first=266, last=66, log=True),
            show=words.show_bytes,
            ticks=5,
        ),
        work=Panel(
            title="work on either side of the cut"
            if narrow
            else "work before the cut on the device, after it in the cloud",
            x=x,
            y=Scale(low=0, high=most_s * 1.08, first=446, last=316),
            show=words.show_s,
            ticks=4,
        ),
        latency=Panel(
            title=f"latency if cut there, over {words.shorten(document.link.name, 20)}",
            x=x,
            y=Scale(low=min(values) / 2, high=max(values) * 1.6, first=646, last=496, log=True),
            show=words.show_s,
            ticks=5,
        ),
    )


def _mine(document: PlanDocument) -> float:
    """The choice's own latency, with its own codecs."""
    return parts_of(document.plan(document.choice), document.link).total_s


def _sent(walk: Walk, panel: Panel, *, letters: int) -> Iterator[Markup]:
    """The bytes, with the narrow places named, the narrowest first, while there is room."""
    yield panel.curve(walk.sent_bytes, "ink")
    cut = panel.x(walk.cut)
    taken = [Box(cut - 2, panel.y.last, cut + 2, panel.y.first), *panel.outline(walk.sent_bytes)]
    for at in sorted(walk.named, key=lambda at: (at != walk.cut, walk.sent_bytes[at] or 0)):
        size = walk.sent_bytes[at]
        if size is None:
            continue
        point = panel.x(at), panel.y(size)
        names = walk.named[at]
        hint = f"after op {at}: {', '.join(names[:6])}, {words.show_bytes(size)}"
        yield element(
            "circle",
            element("title", hint),
            cx=point[0],
            cy=point[1],
            r=3.5,
            class_="chosen" if at == walk.cut else "dot",
        )
        name = words.shorten(names[0], letters) if len(names) == 1 else f"{len(names)} tensors"
        label = placed(f"{name} {words.show_bytes(size)}", point, _SIZE, panel.area, taken)
        if label is not None:
            taken.append(label.box)
            yield label.drawn("strong" if at == walk.cut else "", _SIZE)


def _work(walk: Walk, panel: Panel) -> Iterator[Markup]:
    yield panel.curve(walk.device_s, "edge")
    yield panel.curve(walk.cloud_s, "cloud")
    cut = panel.x(walk.cut)
    taken = [Box(cut - 2, panel.y.last, cut + 2, panel.y.first)]
    taken += [*panel.outline(walk.device_s), *panel.outline(walk.cloud_s)]
    last = walk.places - 1
    quarters = [last * i // 4 for i in range(5)]
    for name, style, curve, whole, order in (
        ("device", "edge", walk.device_s, walk.device_s[-1], quarters[::-1]),
        ("cloud", "cloud", walk.cloud_s, walk.cloud_s[0], quarters),
    ):
        text = f"{name} {words.show_s(whole)}"
        points = [(panel.x(place), panel.y(curve[place])) for place in order]
        found = (placed(text, point, 12, panel.area, taken) for point in points)
        label = next((label for label in found if label is not None), None)
        if label is not None:
            taken.append(label.box)
            yield label.drawn(f"{style} strong", 12)


def _latency(document: PlanDocument, walk: Walk, panel: Panel) -> Iterator[Markup]:
    yield panel.curve(walk.latency_s, "split")
    cut, mine = panel.x(walk.cut), _mine(document)
    taken = [Box(cut - 2, panel.y.last, cut + 2, panel.y.first), *panel.outline(walk.latency_s)]
    ends = [(walk.cut, mine, "chosen", f"the choice {words.show_s(mine)}")]
    alone = walk.latency_s[-1]
    if alone is not None and walk.cut < walk.places - 1:
        ends.append((walk.places - 1, alone, "dot", f"device alone {words.show_s(alone)}"))
    for place, seconds, style, text in ends:
        point = panel.x(place), panel.y(seconds)
        yield element("circle", cx=point[0], cy=point[1], r=4.5, class_=style)
        label = placed(text, point, 12, panel.area, taken)
        if label is not None:
            taken.append(label.box)
            yield label.drawn("strong" if style == "chosen" else "mute", 12)


def _title(walk: Walk, x: Scale, y: float) -> Markup:
    """What the choice is, above its place."""
    text = _cut_in_words(walk)
    half = text_width(text, 12) / 2
    middle = min(max(x(walk.cut), half), x.last + 12 - half)
    return element("text", text, x=middle, y=y, text_anchor="middle", class_="strong")


def _cut_in_words(walk: Walk) -> str:
    if walk.cut == 0:
        return "the choice: all in the cloud"
    if walk.cut == walk.places - 1:
        return "the choice: all on the device"
    return f"the choice: cut after op {walk.cut} ({walk.kinds[walk.cut - 1]})"


def _size(walk: Walk, at: int) -> str:
    size = walk.sent_bytes[at]
    return "something that cannot be sent" if size is None else words.show_bytes(size)


def _foot(x: Scale, bottom: float, *, narrow: bool) -> Iterator[Markup]:
    for at in x.ticks(5 if narrow else 10):
        if at == int(at):
            yield element(
                "text", f"{at:.0f}", x=x(at), y=bottom + 18, text_anchor="middle", class_="mute"
            )
    yield element(
        "text",
        "ops before the cut" if narrow else "ops before the cut, steps among them, in order",
        x=(x.first + x.last) / 2,
        y=bottom + 36,
        text_anchor="middle",
        class_="mute",
    )
