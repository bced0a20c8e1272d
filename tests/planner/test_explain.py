"""Plans and graphs in a terminal: what is said, in which order, and that it stays readable."""

import io
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from rich.console import Console, RenderableType

from planner import words
from planner.chart import MOST_PLACES, explain_graph
from planner.chunks import Chunk
from planner.explain import explain_plan
from planner.graph import Graph, Op, TensorInfo
from planner.loads import Load
from planner.model import Model
from planner.narrow import narrow_places, narrowest, silhouette, valleys
from planner.parts import curve_of, parts_of, value_of
from planner.plans import (
    SCHEMA,
    Certificate,
    Crossing,
    LinkFigures,
    Mixture,
    Plan,
    PlanDocument,
    Range,
    Share,
)
from planner.terminal import PIPED_COLUMNS, show
from planner.work import work_of

MBPS = 1e6 / 8


def a_plan(id_: str, **changes: object) -> Plan:
    plan = Plan(
        id=id_,
        crossing=(),
        ops_on_device=10,
        ops=10,
        device_s=0.3,
        encode_s=0.0,
        decode_s=0.0,
        cloud_s=0.0,
        download_bytes=0,
        usd=0.0,
    )
    return msgspec.structs.replace(plan, **changes)


DEVICE = a_plan("device-only")
SPLIT = a_plan(
    "plan-1",
    crossing=(Crossing(tensor="pool", codec="int8+zstd", bytes=12_500),),
    ops_on_device=4,
    device_s=0.02,
    encode_s=0.001,
    decode_s=0.0005,
    cloud_s=0.01,
    download_bytes=125,
    usd=4e-7,
    drop=0.002,
)
CLOUD = a_plan(
    "cloud-fp32",
    crossing=(Crossing(tensor="x", codec="raw", bytes=125_000),),
    ops_on_device=0,
    device_s=0.005,
    cloud_s=0.02,
    download_bytes=125,
    usd=5e-7,
)
JPEG = a_plan(
    "cloud-jpeg90",
    crossing=(Crossing(tensor="pixels", codec="jpeg:90", bytes=5_000),),
    ops_on_device=0,
    device_s=0.006,
    cloud_s=0.02,
    usd=5e-7,
    refused="jpeg:90 may change the answer",
)


def a_document(**changes: object) -> PlanDocument:
    """The split takes 131.6 ms over 1 Mbps and is the best from 0.5 to 100 Mbps."""
    document = PlanDocument(
        schema=SCHEMA,
        model="mynet",
        digest="0" * 64,
        objective="latency",
        link=LinkFigures(name="3G", up_bps=MBPS, down_bps=MBPS, rtt_s=0.1),
        choice="plan-1",
        runner_up="device-only",
        certificate=Certificate(
            method="minimum cut", unit="s", cost=0.2325, bound=0.2325, resolution=1e-7
        ),
        plans=(DEVICE, SPLIT, CLOUD, JPEG),
        baselines=("device-only", "cloud-fp32", "cloud-jpeg90"),
        table=(
            Range(from_bps=0.05 * MBPS, to_bps=0.5 * MBPS, plan="device-only"),
            Range(from_bps=0.5 * MBPS, to_bps=10 * MBPS, plan="plan-1"),
            Range(from_bps=10 * MBPS, to_bps=100 * MBPS, plan="plan-1"),
            Range(from_bps=100 * MBPS, to_bps=1000 * MBPS, plan="cloud-fp32"),
        ),
        reason="split: 12 kB cross at pool; device-only would take 1.29x as much",
        gain=1.29,
    )
    return msgspec.structs.replace(document, **changes)


def printed(parts: Iterable[RenderableType]) -> list[str]:
    """What a pipe gets, without the spaces at the lines' ends and without empty lines."""
    file = io.StringIO()
    show(parts, console=Console(file=file))
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    return [line for line in lines if line]


def test_a_split_is_told_from_the_choice_to_the_table() -> None:
    """The order is the reader's: what, why, how much better, against what, how sure, how long."""
    document = a_document(limits=("latency at most 300 ms",))
    assert "\n".join(printed(explain_plan(document))) == TOLD


TOLD = """\
mynet over 3G (1 Mbps up, 100 ms), for latency
plan-1        split: 12 kB cross at pool
              device-only would take 1.29x as much
gain          1.29x: the better single side, device-only, takes 300 ms
    plan          runs on  crosses as           kB  device  codec    link  cloud  total ms
 ─────────────────────────────────────────────────────────────────────────────────────────
 *  plan-1        4|6 ops  pool (int8+zstd)   12.5    20.0   1.50   201.0   10.0     232.5
 2  device-only   device                             300.0      0       0      0     300.0
    cloud-fp32    cloud    x (raw)           125.0    5.00      0  1101.0   20.0    1126.0
    cloud-jpeg90  cloud    pixels (jpeg:90)    5.0    6.00      0   140.0   20.0     166.0
  cloud-jpeg90 is no candidate: jpeg:90 may change the answer
    plan          █ device  ▓ codec  ░ link  ▒ cloud         ms  x best  USD/M   drop
 ────────────────────────────────────────────────────────────────────────────────────
 *  plan-1        █░░░░░░░░                               232.5    1.00    0.4  0.20%
 2  device-only   ████████████                            300.0    1.29      0
    cloud-fp32    ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░▸  1126.0    4.84    0.5
    cloud-jpeg90  ░░░░░░                                  166.0    0.71    0.5
certificate   priced again from the profiles the choice takes 232.5 ms; the minimum cut proves that
              no plan takes less than 232.5 ms; all roundings together are below 0.0001 ms
runner-up     device-only, 300 ms
stays best    from 0.5 Mbps to 100 Mbps
limit         latency at most 300 ms
 from  to Mbps  best plan    over the uplink's bandwidth, this link marked  runs on
 ──────────────────────────────────────────────────────────────────────────────────
 0.05      0.5  device-only  ━━━━━━━━━                                      device
  0.5       10  plan-1               ━━●━━━━━━━━                            4|6 ops
   10      100  plan-1                         ━━━━━━━━                     4|6 ops
  100     1000  cloud-fp32                            ━━━━━━━━━             cloud"""


def test_it_is_readable_in_ascii_and_within_a_hundred_columns() -> None:
    """Names hold what they like: markup, quotes, and far more letters than there is room for."""
    long = Crossing(tensor="/model/[bold]layer.0/" + "x" * 200, codec="raw", bytes=10)
    plans = [
        msgspec.structs.replace(SPLIT, id=f"plan-{n:07x}", crossing=(long, long, long))
        for n in range(40)
    ]
    document = a_document(plans=(DEVICE, SPLIT, CLOUD, JPEG, *plans))
    lines = printed(explain_plan(document))
    assert max(map(len, lines)) <= PIPED_COLUMNS
    assert "/model/[bold]layer." in "\n".join(lines)
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show(explain_plan(document), console=Console(file=file))
    file.flush()
    file.seek(0)
    text = file.read()
    assert max(map(len, text.splitlines())) <= PIPED_COLUMNS
    assert "# device  % codec  . link  = cloud" in text
    assert "#........ " in text


def test_frames_in_flight_and_the_clouds_load_are_told_where_there_are_any() -> None:
    mixture = Mixture(
        shares=(Share(plan="plan-1", share=0.75), Share(plan="device-only", share=0.25)),
        fps=12.5,
        most_fps=12.5,
    )
    document = a_document(
        objective="throughput",
        plans=(DEVICE, msgspec.structs.replace(SPLIT, fps=10.0), CLOUD),
        baselines=("device-only", "cloud-fp32"),
        mixture=mixture,
        load=Load(queue_s=0.01, cold_chance=0.1, cold_s=0.2),
    )
    lines = printed(explain_plan(document))
    assert any(line.startswith("in flight     75.0% plan-1 + 25.0% device-only") for line in lines)
    assert "(1.25x plan-1 alone)" in "\n".join(lines)
    told = "30 ms a request: queue 10 ms, 10.0% of the requests wait 200 ms for a start"
    assert f"cloud's load  {told}" in lines


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "from 0.5 Mbps to 100 Mbps"),
        ({"choice": "device-only"}, "device-only is the best at this link's bandwidth and on no"),
        ({"link": LinkFigures(name="a", up_bps=0.1 * MBPS, down_bps=1, rtt_s=0),
          "choice": "device-only"}, "at every bandwidth below 0.5 Mbps"),
        ({"link": LinkFigures(name="a", up_bps=500 * MBPS, down_bps=1, rtt_s=0),
          "choice": "cloud-fp32"}, "at every bandwidth above 100 Mbps"),
        ({"table": (Range(from_bps=0.05 * MBPS, to_bps=1000 * MBPS, plan="plan-1"),)},
         "at every bandwidth from 0.05 Mbps to 1000 Mbps"),
    ],
)  # fmt: skip
def test_the_stretch_in_which_the_choice_stays_best(changes: dict[str, object], told: str) -> None:
    """Neighbouring ranges of one plan are one stretch."""
    assert words.stays_best(a_document(**changes)).startswith(told)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"choice": "device-only"}, "device-only is itself the better single side"),
        ({"plans": (SPLIT, msgspec.structs.replace(DEVICE, refused="too slow"), JPEG)},
         "neither the device alone nor the cloud alone is allowed"),
        ({"objective": "energy", "plans": (
            msgspec.structs.replace(SPLIT, energy_j=1.0),
            msgspec.structs.replace(DEVICE, energy_j=1.29))},
         "1.29x: the better single side, device-only, draws 1.29 J"),
        ({"objective": "cost", "plans": (SPLIT, CLOUD)},
         "1.29x: the better single side, cloud-fp32, costs 0.5 USD a million"),
    ],
)  # fmt: skip
def test_the_gain_is_told_against_what_it_is_measured(
    changes: dict[str, object], told: str
) -> None:
    assert words.gain_in_words(a_document(**changes)).startswith(told)


def test_what_a_certificate_leaves_open_is_said_in_percent() -> None:
    proof = Certificate(method="integer programme", unit="J", cost=2.0, bound=1.9)
    assert words.certificate_in_words(proof, "energy") == (
        "priced again from the profiles the choice draws 2 J; the integer programme proves that no "
        "plan draws less than 1.9 J; what is left open is 5 %"
    )


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.0, "0 ms"), (2e-5, "20 µs"), (0.00013, "0.13 ms"), (0.0123, "12.3 ms"),
        (0.119, "119 ms"), (0.99996, "1 s"), (12.34, "12.3 s"), (4321.0, "4321 s"),
    ],
)  # fmt: skip
def test_seconds_have_three_digits(value: float, told: str) -> None:
    assert words.show_s(value) == told


def test_sizes_and_long_names_stay_short() -> None:
    sizes = [words.show_bytes(n) for n in (7, 1500, 150_528, 3_210_000, 2_500_000_000)]
    assert sizes == ["7 B", "1.5 kB", "151 kB", "3.21 MB", "2.5 GB"]
    assert words.shorten("abcdefghij", 10) == "abcdefghij"
    assert words.shorten("abcdefghijk", 7) == "abc…ijk"


@given(
    st.builds(
        a_plan,
        st.just("p"),
        crossing=st.integers(0, 9**9).map(
            lambda n: (Crossing(tensor="t", codec="raw", bytes=n),) if n else ()
        ),
        device_s=st.floats(0, 10),
        encode_s=st.floats(0, 1),
        decode_s=st.floats(0, 1),
        cloud_s=st.floats(0, 10),
        overhead_s=st.floats(0, 1),
        wait_s=st.floats(0, 1),
        download_bytes=st.integers(0, 10**6),
    ),
    st.sampled_from(["latency", "throughput", "cost"]),
)
def test_the_parts_add_up_and_the_curve_passes_through_them(plan: Plan, objective: str) -> None:
    document = a_document(plans=(plan,), choice="p", objective=objective)
    link = document.link
    if plan.remote:
        total = plan.total_s(link.up_bps, link.rtt_s, link.down_bps)
        assert parts_of(plan, link).total_s == pytest.approx(total)
    else:
        assert parts_of(plan, link).link_s == 0.0
    if plan.remote or not plan.wait_s:
        value = value_of(document, plan)
        assert curve_of(document, plan).at(link.up_bps) == pytest.approx(value)


AHEAD = msgspec.structs.replace(
    SPLIT,
    chunks=(
        Chunk(tensor="pool", number=1, of=2, device_s=0.02, encode_s=0.0005, bytes=6_250),
        Chunk(tensor="pool", number=2, of=2, device_s=0.0, encode_s=0.0015, bytes=6_250),
    ),
)


def test_what_is_sent_while_the_device_works_is_told_and_counted_once() -> None:
    """Two halves travel from 20.5 ms on; a message more costs 1 ms of the 1.5 that it saves."""
    document = a_document(plans=(DEVICE, AHEAD, CLOUD, JPEG))
    assert words.sending_in_words(document) == (
        "in 2 chunks, each as soon as it is ready, the first after 20.5 ms: 0.5 ms of the way up "
        "pass while the device still works (232 ms if all were sent at the end)"
    )
    told = [line for line in printed(explain_plan(document)) if line.startswith("sent")]
    assert told[0].startswith("sent          in 2 chunks, each as soon as it is ready")
    parts = parts_of(AHEAD, document.link)
    assert parts.hidden_s == pytest.approx(0.0005)
    assert parts.total_s == pytest.approx(0.232)
    assert words.sending_in_words(a_document()) == ""


@given(st.floats(1e3, 1e9))
def test_the_curve_of_a_plan_that_is_sent_ahead_bends(up_bps: float) -> None:
    link = LinkFigures(name="any", up_bps=up_bps, down_bps=up_bps, rtt_s=0.01)
    document = a_document(plans=(AHEAD,), choice="plan-1", link=link)
    value = value_of(document, AHEAD)
    assert value == pytest.approx(AHEAD.total_s(up_bps, 0.01, up_bps))
    assert curve_of(document, AHEAD).at(up_bps) == pytest.approx(value)
    assert value <= SPLIT.total_s(up_bps, 0.01, up_bps) * (1 + 1e-12)


def a_chain(sizes: list[int | None]) -> Graph:
    """A graph in a row, with a tensor of each size; None is one of unknown size."""
    tensors = {
        f"t{i}": TensorInfo(name=f"t{i}", datatype="UINT8", shape=(-1 if n is None else n,))
        for i, n in enumerate(sizes)
    }
    names = list(tensors)
    ops = tuple(
        Op(name=f"op{i}", kind="Relu", inputs=(names[i],), outputs=(names[i + 1],))
        for i in range(len(names) - 1)
    )
    return Graph(ops=ops, tensors=tensors, sources=(names[0],), answers=(names[-1],))


def test_the_input_and_each_valley_are_narrow_places() -> None:
    graph = a_chain([100, 400, 200, 400, 390, 400, 50, 60, None, 10, 10])
    assert narrow_places(graph) == [(0, 100, ("t0",)), (6, 50, ("t6",)), (9, 10, ("t9",))]
    assert [place.nbytes for place in valleys(graph, 24)] == [100, 200, 50, 10]


@given(st.lists(st.integers(1, 1000) | st.none(), min_size=1, max_size=60), st.integers(2, 10))
def test_narrow_places_are_bounded_and_keep_the_least(sizes: list[int | None], most: int) -> None:
    found = narrowest(sizes, most)
    assert len(found) <= most
    assert found == sorted(set(found))
    known = [size for size in sizes if size is not None]
    if known:
        first = next(at for at, size in enumerate(sizes) if size is not None)
        assert found[0] == first
        kept = [size for at in found if (size := sizes[at]) is not None]
        if len(narrowest(sizes, 100)) <= most:
            assert min(kept) <= min(known) * 1.1


def test_what_crosses_along_a_graph_is_its_boundary(model: Model) -> None:
    graph = model.graph
    for count, size in enumerate(silhouette(graph)):
        names = graph.boundary(frozenset(range(count)))
        known = [graph.info(name).nbytes for name in names]
        whole = None if None in known else sum(n for n in known if n is not None)
        assert size == whole


def test_work_is_counted_from_shapes(model: Model) -> None:
    """A 3 x 3 convolution over 3 channels takes 27 products for each of 8 x 15 x 15 elements."""
    work = work_of(model)
    assert work is not None
    by_op = dict(zip([op.name for op in model.graph.ops], work, strict=True))
    assert by_op["conv1"] == 8 * 15 * 15 * 27
    assert by_op["relu1"] == 8 * 15 * 15
    assert by_op["conv2"] == 16 * 7 * 7 * 8 * 9
    assert by_op["fc"] == 3 * 16
    assert {by_op[op.name] for op in model.graph.ops if op.is_step} == {0}


def test_inspect_shows_what_crosses_and_how_much_is_done_by_then(model: Model) -> None:
    lines = printed(explain_graph(model))
    assert lines[0].endswith("7 ops, 6 steps, 108 k multiply-adds")
    assert lines[3] == "starts from bytes, answers label, score"
    rows = [line.split() for line in lines[7:-1]]
    assert [(r[0], r[1], r[2], r[3], r[4], r[-1]) for r in rows] == [
        ("3", "crop", "0%", "3.07", "kB", "crop"),
        ("10", "GlobalAveragePool", "100%", "64", "B", "p"),
        ("12", "Gemm", "100%", "12", "B", "y"),
    ]


def test_inspect_of_ten_thousand_ops_stays_small() -> None:
    graph = a_chain([10_000 - i + 997 * (i % 7) for i in range(10_001)])
    nodes = [helper.make_node(op.kind, op.inputs, op.outputs, name=op.name) for op in graph.ops]
    large = Model(
        name="large",
        digest="0" * 64,
        graph=graph,
        inputs=(graph.info("t0"),),
        outputs=(graph.info("t10000"),),
        assumed={},
        proto=helper.make_model(helper.make_graph(nodes, "large", [], [])),
        steps={},
    )
    lines = printed(explain_graph(large))
    assert 10 < len(lines) <= MOST_PLACES + 8
