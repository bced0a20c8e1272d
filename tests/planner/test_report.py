"""The report of a plan: it holds all it needs, nothing in it breaks out, and its figures are right.

What it looks like in a browser is in ``tests/integration/test_report.py``.
"""

import base64
import hashlib
import json
import re
from datetime import date
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import Costs
from planner.links import Link, parse_link
from planner.model import Model
from planner.objectives import Name
from planner.parts import curve_of
from planner.planning import LOSSLESS, plan
from planner.plans import Crossing, Mixture, PlanDocument, Share
from planner.profiles import SCHEMA, CodecRate, Machine, OpTime, Profile, TensorSize
from planner.report import render, write_report
from planner.report.axes import Scale, line
from planner.report.bandwidth import chart
from planner.report.labels import Box, placed, spread, text_width
from planner.report.markup import element, text
from planner.report.panels import MOST_POINTS, thinned
from planner.report.walk import head_of, walk_of

LINK = parse_link("2Mbps,20ms")
NASTY = '<script>alert("x")</script>&\'\x00'


def a_profile(model: Model, **seconds: float) -> Profile:
    """A tenth of a millisecond for each op that is not named."""
    rates = {"encode_fixed_s": 1e-5, "encode_per_byte_s": 1e-9}
    rates |= {"decode_fixed_s": 1e-5, "decode_per_byte_s": 1e-9}
    ops = tuple(
        OpTime(name=op.name, kind=op.kind, seconds=seconds.get(op.name.split(":")[-1], 1e-4))
        for op in model.graph.ops
    )
    sizes = {name: info.nbytes or 6_000 for name, info in model.graph.tensors.items()}
    return Profile(
        schema=SCHEMA,
        model=model.name,
        digest=model.digest,
        machine=Machine(
            cpu="a <small> board", cores=4, threads=1, python="3.11", onnxruntime="1.20"
        ),
        runs=5,
        whole_s=sum(op.seconds for op in ops),
        spread_s=(0.0, 1.0),
        ops=ops,
        codecs=tuple(CodecRate(codec=codec, **rates) for codec in (*LOSSLESS, "int8+zstd")),
        tensors=tuple(
            TensorSize(
                name=name,
                raw_bytes=size,
                coded_bytes={"raw": size, "raw+zstd": size * 9 // 10, "int8+zstd": size // 4},
            )
            for name, size in sizes.items()
        ),
    )


@pytest.fixture(scope="module")
def device(model: Model) -> Profile:
    """Slow in its last op, so that the split before it is the best."""
    return a_profile(model, fc=0.5)


@pytest.fixture(scope="module")
def cloud(model: Model) -> Profile:
    return a_profile(model)


@pytest.fixture(scope="module")
def document(model: Model, device: Profile, cloud: Profile) -> PlanDocument:
    found = plan(model, device, cloud, LINK)
    assert found.plan(found.choice).kind == "split"
    return found


class Page(HTMLParser):
    """What a page holds, read by a parser that is not ours; every element must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]].append(data)
        else:
            self.texts.append(data)


def test_the_page_holds_all_it_needs_and_allows_nothing_else(
    document: PlanDocument, model: Model, device: Profile, cloud: Profile
) -> None:
    """Its policy names the hashes of its own style and script: no other one can run."""
    page = Page(render(document, model, device, cloud))
    contents = [value or "" for name, value in page.attributes if name == "content"]
    (policy,) = [content for content in contents if "-src" in content]
    for kind, sources in (("style", page.raw["style"]), ("script", page.raw["script"][-1:])):
        (source,) = sources
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    names = {name for name, _ in page.attributes}
    assert not names & {"src", "srcset", "style", "onload", "onclick", "action"}
    links = [value for name, value in page.attributes if name in {"href", "clip-path"}]
    assert set(links) == {"data:,", "url(#plot-wide)", "url(#plot-narrow)"}
    assert not set(page.tags) & {"img", "iframe", "object", "embed", "form", "a", "base"}


def test_everything_that_is_asked_of_a_report_is_on_it(
    document: PlanDocument, model: Model, device: Profile, cloud: Profile
) -> None:
    page = Page(render(document, model, device, cloud, made=date(2026, 1, 31)))
    words = " ".join(page.texts)
    headings = re.findall(r"<h2>(.*?)</h2>", render(document, model, device, cloud))
    assert headings == [
        "Latency against uplink bandwidth",
        "Bytes and time along the graph",
        "Where the time goes",
        "All plans",
        "The best plan by bandwidth",
        "Proof and provenance",
    ]
    for told in (document.choice, "proven best", "a <small> board", model.digest, "2026-01-31"):
        assert told in words
    assert {plan.id for plan in document.plans} <= set(words.split())
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert len([label for label in labels if label and label.startswith("Latency against")]) == 2
    assert page.tags.count("title") > 10


def test_no_name_breaks_out_of_the_page(
    document: PlanDocument, model: Model, device: Profile, cloud: Profile
) -> None:
    """A model's author chooses its tensors' names, and a user the plan's."""
    plain = Page(render(document, model, device, cloud))
    split = document.plan(document.choice)
    renamed = msgspec.structs.replace(
        split, id=NASTY, refused=NASTY, crossing=(Crossing(tensor="p", codec="raw", bytes=64),)
    )
    nasty = msgspec.structs.replace(
        document,
        model=NASTY,
        reason=NASTY,
        limits=(NASTY,),
        link=msgspec.structs.replace(document.link, name=NASTY),
        choice=NASTY,
        plans=tuple(renamed if plan is split else plan for plan in document.plans),
        table=tuple(
            msgspec.structs.replace(each, plan=NASTY) if each.plan == split.id else each
            for each in document.table
        ),
    )
    html = render(nasty, model, device, cloud)
    page = Page(html)
    assert page.tags.count("script") == plain.tags.count("script") == 2
    assert set(page.tags) == set(plain.tags)
    assert {name for name, _ in page.attributes} == {name for name, _ in plain.attributes}
    assert '<script>alert("x")</script>&\'�' in page.texts
    assert "\x00" not in html
    plans = json.loads(page.raw["script"][0])["plans"]
    assert NASTY not in {each["id"] for each in plans}  # refused plans are not read out


def test_text_that_is_no_unicode_can_be_written() -> None:
    """A file's name may hold bytes that are none."""
    assert text("caf\udce9") == "caf?"
    assert element("p", "a<b", class_="x", hidden=None, title='"') == (
        '<p class="x" title="&quot;">a&lt;b</p>'
    )


def test_the_script_reads_the_same_curves(
    document: PlanDocument, model: Model, device: Profile, cloud: Profile
) -> None:
    page = Page(render(document, model, device, cloud))
    data = json.loads(page.raw["script"][0])
    assert (data["low"], data["high"]) == (document.table[0].from_bps, document.table[-1].to_bps)
    found = {each["id"]: each["ways"] for each in data["plans"]}
    allowed = [each for each in document.plans if not each.refused]
    assert found == {
        each.id: [[list(stage) for stage in stages] for stages in curve_of(document, each).ways]
        for each in allowed
    }


def test_a_report_on_disk_is_dated(
    document: PlanDocument, model: Model, device: Profile, cloud: Profile, tmp_path: Path
) -> None:
    write_report(tmp_path / "r.html", document, model, device, cloud)
    written = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert re.search(r"<dt>made</dt><dd>\d{4}-\d\d-\d\d</dd>", written)


@pytest.mark.parametrize("objective", ["latency", "throughput", "cost"])
def test_every_objective_has_its_report(
    objective: Name, model: Model, device: Profile, cloud: Profile
) -> None:
    titles = {"latency": "Latency", "throughput": "Frames per second", "cost": "Cost per million"}
    found = plan(model, device, cloud, LINK, objective=objective)
    html = render(found, model, device, cloud)
    Page(html)
    assert f"<h2>{titles[objective]}" in html


@pytest.mark.parametrize("page", ["wide", "narrow"])
@pytest.mark.parametrize("along", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_name_of_a_mixture_stays_within_the_plot(
    along: float, page: str, model: Model, device: Profile, cloud: Profile
) -> None:
    found = plan(model, device, cloud, LINK, objective="throughput")
    low, high = found.table[0].from_bps, found.table[-1].to_bps
    here = msgspec.structs.replace(found.link, up_bps=low * (high / low) ** along)
    shares = (Share(plan="device", share=0.5), Share(plan="cloud", share=0.5))
    fastest = max(each.fps or 0.0 for each in found.plans)
    mixture = Mixture(shares=shares, fps=fastest * 1.1, most_fps=fastest * 2)
    drawn = chart(
        msgspec.structs.replace(found, link=here, mixture=mixture), narrow=page == "narrow"
    )
    label = re.search(
        r'<text x="([\d.]+)" [^>]*text-anchor="(\w+)"[^>]*>(mixture [\d.]+ fps)<', drawn
    )
    edges = [float(re.search(rf'data-{side}="([\d.]+)"', drawn)[1]) for side in ("left", "right")]  # type: ignore[index]
    assert label, drawn
    wide = text_width(label[3], 12.0)
    left = float(label[1]) - {"start": 0.0, "middle": 0.5, "end": 1.0}[label[2]] * wide
    assert edges[0] - 1 <= left
    assert left + wide <= edges[1] + 1


def test_the_walk_takes_what_the_planner_would_charge(
    document: PlanDocument, model: Model, device: Profile, cloud: Profile
) -> None:
    """Every place of the walk is a plan: priced by the planner it costs the same."""
    walk = walk_of(document, model, device, cloud)
    names = [each.tensor for each in document.plan(document.choice).crossing]
    head = head_of(model.graph, names)
    assert walk.cut == len(head)
    order = [*sorted(head), *sorted(set(range(len(model.graph.ops))) - head)]
    link = Link(**{name: getattr(document.link, name) for name in Link.__slots__[:4]})
    costs = Costs(model.graph, device, cloud, link, LOSSLESS)
    for place, latency in enumerate(walk.latency_s):
        assert latency is not None
        there = costs.plan(frozenset(order[:place]), link.up_bps)
        assert latency == pytest.approx(there.total_s(link.up_bps, link.rtt_s, link.down_bps))
        assert (walk.sent_bytes[place] or 0) == there.upload_bytes
    assert walk.latency_s[walk.cut] == pytest.approx(document.certificate.cost)
    assert walk.named[walk.cut] == tuple(names)


def test_the_head_of_what_crosses_is_what_ran_before_it(model: Model) -> None:
    everywhere = frozenset(range(len(model.graph.ops)))
    assert head_of(model.graph, ()) == everywhere
    assert head_of(model.graph, ("bytes",)) == frozenset()
    for count in range(1, len(everywhere)):
        head = frozenset(range(count))
        assert head_of(model.graph, model.graph.boundary(head)) == head


FINITE = st.floats(-500, 500)


@given(st.lists(FINITE, max_size=20), st.floats(1, 30))
def test_labels_are_moved_apart_and_keep_their_order(wanted: list[float], gap: float) -> None:
    places = spread(wanted, gap, -1000.0, 1000.0)
    ordered = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    moved = [places[i] for i in ordered]
    assert all(b - a >= gap - 1e-6 for a, b in pairwise(moved))
    assert all(-1000 <= place <= 1000 for place in places)
    if all(abs(a - b) >= gap for i, a in enumerate(wanted) for b in wanted[:i]):
        assert places == pytest.approx(wanted)


@given(
    st.tuples(FINITE, FINITE),
    st.lists(st.tuples(FINITE, FINITE, st.floats(1, 200), st.floats(1, 200)), max_size=8),
)
def test_a_label_lies_within_its_plot_and_on_nothing(
    point: tuple[float, float], rectangles: list[tuple[float, float, float, float]]
) -> None:
    area = Box(-400, -300, 400, 300)
    taken = [Box(x, y, x + wide, y + high) for x, y, wide, high in rectangles]
    label = placed("a name 12 kB", point, 12, area, taken)
    if label is not None:
        assert area.holds(label.box)
        assert not any(label.box.meets(other) for other in taken)
    elif not taken:
        assert not area.holds(Box(point[0] - 120, point[1] - 70, point[0] + 120, point[1] + 70))


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e9), st.integers(2, 14), st.booleans())
def test_ticks_lie_on_the_scale_and_are_not_too_many(
    low: float,
    times: float,
    most: int,
    log: bool,  # noqa: FBT001  Hypothesis passes by position
) -> None:
    scale = Scale(low=low, high=low * times, first=0, last=100, log=log)
    ticks = scale.ticks(most)
    assert 1 <= len(ticks) <= most + 2
    assert all(-0.5 <= scale(tick) <= 100.5 for tick in ticks)
    assert list(ticks) == sorted(set(ticks))


def test_a_line_is_lifted_where_there_is_no_value() -> None:
    assert line([(0, 1), (2.5, 3), None, (4, 5)]) == "M0 1L2.5 3M4 5"


@given(st.lists(st.floats(0, 1e9) | st.none(), min_size=1, max_size=5000))
def test_a_long_curve_is_thinned_to_its_extremes(values: list[float | None]) -> None:
    found = thinned(values)
    assert len(found) <= MOST_POINTS + 3
    assert [at for at, _ in found] == sorted({at for at, _ in found})
    assert all(values[at] == value for at, value in found)
    known = [value for value in values if value is not None]
    if known:
        kept = [value for _, value in found if value is not None]
        assert (min(kept), max(kept)) == (min(known), max(known))
