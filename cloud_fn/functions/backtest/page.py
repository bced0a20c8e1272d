"""A comparison as one self-contained HTML page: the frontier, and the table beneath it."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

from cloud_fn.functions.backtest.compare import OURS, Comparison
from cloud_fn.functions.backtest.score import Outcome
from cloud_fn.functions.backtest.show import families_shown
from planner.report.axes import Scale, line
from planner.report.labels import Box, placed
from planner.report.markup import Markup, element, number
from planner.report.style import CSS

_WIDE, _HIGH = 992.0, 520.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 968.0, 24.0, 460.0
_STYLES = {
    "fixed keep-alive": "edge",
    "hybrid histogram": "split",
    "forecast": "lead",
    "greedy-dual": "cloud",
    OURS: "ink",
}


def write_page(path: Path, comparison: Comparison) -> None:
    """Write the page.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_text(render(comparison), encoding="utf-8")


def render(comparison: Comparison) -> str:
    """The page as HTML; its policy forbids it to ask anything of the network."""
    style = Markup(CSS)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    title = f"Scaling policies on {comparison.trace}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", style),
    )
    about = (
        f"{comparison.functions} functions, {comparison.invocations:,} invocations in "
        f"{comparison.hours:g} hours. Memory is idle instance time times size, relative to a fixed "
        "keep-alive of ten minutes. Back-tested acts at each moment on the log before it alone."
    )
    body = element(
        "body",
        element(
            "main",
            element("p", "Isthmus back-test", class_="over"),
            element("h1", title),
            element("p", about),
            element("h2", "Cold starts against idle memory"),
            element("p", "Down and left is better; cold starts are logarithmic."),
            element("figure", chart(comparison)),
            element("h2", "All policies"),
            element("p", "The bounds know the future: they are no policies."),
            _table(comparison),
        ),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def chart(comparison: Comparison) -> Markup:
    """The frontier as SVG: a line for each family of policies."""
    shown = families_shown(comparison)
    points = [each for members in shown.values() for each in members]
    title = "Cold starts against idle memory"
    if not points:
        return element("p", "No policy lies within the chart.")
    x = Scale(low=0, high=max(each.memory for each in points) * 1.05, first=_LEFT, last=_RIGHT)
    y = Scale(
        low=min(each.cold for each in points) / 1.2,
        high=max(each.cold for each in points) * 1.2,
        first=_BOTTOM,
        last=_TOP,
        log=True,
    )
    return element(
        "svg",
        element("title", title),
        *_axes(x, y),
        *_families(shown, x, y),
        viewBox=f"0 0 {number(_WIDE)} {number(_HIGH)}",
        role="img",
        aria_label=title,
    )


def _axes(x: Scale, y: Scale) -> Iterator[Markup]:
    for value in y.ticks(8):
        at = y(value)
        yield element("line", x1=_LEFT, x2=_RIGHT, y1=at, y2=at, class_="grid")
        yield element("text", f"{value:g}", x=_LEFT - 8, y=at + 4, text_anchor="end", class_="mute")
    for value in x.ticks(10):
        yield element(
            "text", f"{value:g}", x=x(value), y=_BOTTOM + 20, text_anchor="middle", class_="mute"
        )
    yield element(
        "text", "idle memory, fixed 10 minutes = 1", x=(_LEFT + _RIGHT) / 2, y=_BOTTOM + 44,
        text_anchor="middle", class_="mute",
    )  # fmt: skip


def _families(shown: dict[str, tuple[Outcome, ...]], x: Scale, y: Scale) -> Iterator[Markup]:
    taken: list[Box] = []
    for name, members in shown.items():
        points = [(x(each.memory), y(each.cold)) for each in members]
        best = " best" if name == OURS else ""
        yield element("path", d=line(points), class_=f"curve{best} {_STYLES[name]}")
        for each, (left, top) in zip(members, points, strict=True):
            hint = f"{name}, {each.setting}: {each.cold} cold starts at {each.memory:.2f}"
            yield element(
                "circle", element("title", hint), cx=left, cy=top, r=4,
                class_="chosen" if name == OURS else f"dot {_STYLES[name]}",
            )  # fmt: skip
            taken.append(Box(left - 5, top - 5, left + 5, top + 5))
    area = Box(_LEFT, _TOP, _RIGHT, _BOTTOM)
    for name, members in shown.items():
        for each in members[len(members) // 2 :] + members[: len(members) // 2]:
            label = placed(name, (x(each.memory), y(each.cold)), 12, area, taken)
            if label is not None:
                taken.append(label.box)
                yield label.drawn("strong" if name == OURS else "", 12)
                break


def _table(comparison: Comparison) -> Markup:
    names = ("policy", "setting", "cold starts", "p75 cold share", "memory")
    head = element(
        "tr",
        *(
            element("th", name, scope="col", class_="left" if at < 2 else None)
            for at, name in enumerate(names)
        ),
    )
    rows = [_row(each, bound=False) for each in comparison.outcomes]
    rows += [_row(each, bound=True) for each in comparison.bounds]
    table = element("table", element("thead", head), element("tbody", *rows))
    return element(
        "div", table, class_="scroll", role="region", aria_label="All policies", tabindex="0"
    )


def _row(each: Outcome, *, bound: bool) -> Markup:
    name = [each.policy]
    if bound:
        name.append(element("span", "bound", class_="tag"))
    return element(
        "tr",
        element("th", *name, scope="row", class_="left"),
        element("td", each.setting, class_="left"),
        element("td", f"{each.cold:,}"),
        element("td", f"{each.p75_cold_share:.1%}"),
        element("td", f"{each.memory:.2f}"),
        class_="chosen" if each.policy == OURS else "refused" if bound else None,
    )
