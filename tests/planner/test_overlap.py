"""Requests that are sent while the head works: chunks, makespans, and the programme against all."""

import math
import random
from dataclasses import replace

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from planner.chunks import Chunk, across_s, check, hidden_s, lines
from planner.errors import PlannerError
from planner.graph import Graph, Op, TensorInfo
from planner.limits import choose
from planner.objectives import Objective
from planner.rates import Rates
from planner.solve.makespan import soonest
from planner.solve.overlap import AHEAD_BYTES, chunks_of, most_slices
from planner.solve.problem import Chosen, Problem
from planner.solve.program import Limits
from planner.solve.way import Way
from planner.sooner import latency_s, sooner
from planner.tables import line_table
from testbed.bench.reference import every_plan, random_problem, sent_ahead

seeds = st.integers(0, 2**32).map(random.Random)
UP_BPS = 1e6


def _chunk(tensor: str = "x", **parts: float) -> Chunk:
    base = Chunk(tensor=tensor, device_s=0.0, encode_s=0.0, bytes=0)
    return msgspec.structs.replace(base, **parts)


def _latency(rng: random.Random) -> Objective:
    fixed = Rates(device=1.0, cloud=1.0, down=1e-6, trip=rng.randint(0, 50) / 1000)
    return Objective(fixed=fixed, pace=Rates(up=1.0))


def _problem(rng: random.Random, most_ops: int, message_s: float) -> Problem:
    return sent_ahead(rng, random_problem(rng, most_ops), message_s)


def _chain(sizes: dict[str, int], seconds: tuple[float, ...]) -> Graph:
    """Ops that each read the one before and whose outputs the last one reads all."""
    names = list(sizes)
    ops = [
        Op(name=f"op{i}", kind="Relu", inputs=(names[i - 1] if i else "in",), outputs=(name,))
        for i, name in enumerate(names)
    ]
    ops.append(Op(name="last", kind="Sum", inputs=tuple(names), outputs=("out",)))
    assert len(seconds) == len(ops)
    tensors = {
        name: TensorInfo(name=name, datatype="FP32", shape=(1, 8, 64, 64))
        for name in ("in", *names, "out")
    }
    return Graph(ops=tuple(ops), tensors=tensors, sources=("in",), answers=("out",))


def _way(nbytes: int, encode_s: float = 0.0, slices: int = 1) -> Way:
    return Way(codec="raw", nbytes=nbytes, encode_s=encode_s, decode_s=0.0, slices=slices)


# The makespan ---------------------------------------------------------------------------------


def test_the_link_sends_one_chunk_while_the_device_works_on_the_next() -> None:
    chunks = (
        _chunk("a", device_s=1.0, bytes=200),
        _chunk("b", device_s=1.5, encode_s=0.5, bytes=100),
    )
    # a is ready at 1 and across at 3; b is ready at 3, too.
    assert across_s(chunks, 100.0) == pytest.approx(4.0)
    # On a slow link b waits for a.
    assert across_s(chunks, 50.0) == pytest.approx(1.0 + 300 / 50)
    # A device at half the speed is what holds up the rest.
    assert across_s(chunks, 100.0, pace=2.0) == pytest.approx(6.0 + 1.0)


@given(seeds)
def test_the_makespan_is_the_largest_of_its_lines(rng: random.Random) -> None:
    chunks = tuple(
        _chunk(
            str(i),
            device_s=rng.random(),
            encode_s=rng.random() / 10,
            bytes=rng.randint(0, 10**6),
        )
        for i in range(rng.randint(1, 8))
    )
    for up_bps in (1e4, 1e5, 1e6, 1e7):
        found = max(seconds + nbytes / up_bps for seconds, nbytes in lines(chunks))
        assert across_s(chunks, up_bps) == pytest.approx(found)


def test_what_is_hidden_is_never_negative() -> None:
    costly = (_chunk("a", encode_s=1.0, bytes=10), _chunk("b", encode_s=9.0, bytes=10))
    assert hidden_s(costly, busy_s=2.0, upload_bytes=20, up_bps=1000.0) == 0.0
    assert hidden_s((), busy_s=2.0, upload_bytes=20, up_bps=10.0) == 0.0


# The chunks of a head -------------------------------------------------------------------------


def test_a_tensor_that_is_ready_early_is_sent_before_the_rest_of_the_head_runs() -> None:
    graph = _chain({"a": 1, "b": 1}, (0.1, 0.4, 0.2))
    crossing = {"a": _way(100_000), "b": _way(50_000)}
    found = chunks_of(graph, frozenset({0, 1}), crossing, (0.1, 0.4, 0.2), 0.001)
    assert [(each.tensor, each.of, each.bytes) for each in found] == [
        ("a", 1, 100_000),
        ("b", 1, 50_000),
    ]
    assert [each.device_s for each in found] == pytest.approx([0.1, 0.4])
    assert [each.encode_s for each in found] == pytest.approx([0.0, 0.001])


@pytest.mark.parametrize(
    ("first", "work_s", "message_s"),
    [
        (_way(AHEAD_BYTES - 1), 0.4, 0.001),  # too small to be worth it
        (_way(100_000), 0.003, 0.001),  # nothing left to hide behind
    ],
)
def test_what_is_not_worth_a_message_waits_for_the_rest(
    first: Way, work_s: float, message_s: float
) -> None:
    graph = _chain({"a": 1, "b": 1}, (0.1, work_s, 0.2))
    crossing = {"a": first, "b": _way(50_000)}
    found = chunks_of(graph, frozenset({0, 1}), crossing, (0.1, work_s, 0.2), message_s)
    assert [each.device_s for each in found] == pytest.approx([0.1 + work_s, 0.0])


def test_a_large_tensor_is_sent_in_slices_and_a_request_of_one_chunk_has_none() -> None:
    graph = _chain({"a": 1}, (0.1, 0.2))
    crossing = {"a": _way(100_003, encode_s=0.04, slices=4)}
    found = chunks_of(graph, frozenset({0}), crossing, (0.1, 0.2), 0.001)
    assert [(each.number, each.of) for each in found] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sum(each.bytes for each in found) == 100_003
    assert [each.encode_s for each in found] == pytest.approx([0.01, 0.011, 0.011, 0.011])
    assert [each.device_s for each in found] == pytest.approx([0.1, 0, 0, 0])
    whole = {"a": _way(100_003, encode_s=0.04)}
    assert chunks_of(graph, frozenset({0}), whole, (0.1, 0.2), 0.001) == ()


def test_the_head_is_not_parted_where_a_sequence_would_be_handed_on() -> None:
    graph = _chain({"a": 1, "b": 1}, (0.1, 0.4, 0.2))
    sequence = TensorInfo(name="a", datatype="", shape=())
    odd = Graph(
        ops=graph.ops,
        tensors={**graph.tensors, "a": sequence},
        sources=graph.sources,
        answers=graph.answers,
    )
    crossing = {"in": _way(100_000), "b": _way(50_000)}
    found = chunks_of(odd, frozenset({0, 1}), crossing, (0.1, 0.4, 0.2), 0.001)
    assert [each.tensor for each in found] == ["in", "b"]
    crossing = {"a": _way(100_000), "b": _way(50_000)}
    found = chunks_of(odd, frozenset({0, 1}), crossing, (0.1, 0.4, 0.2), 0.001)
    assert [each.device_s for each in found] == pytest.approx([0.5, 0.0])


def test_slices_are_as_many_as_pay() -> None:
    assert most_slices(0.001, 10**6, message_s=0.001) == 1
    assert most_slices(0.004, 10**6, message_s=0.001) == 2
    assert most_slices(1.0, 10**6, message_s=0.001) == 8
    assert most_slices(1.0, 3 * AHEAD_BYTES, message_s=0.001) == 3
    assert most_slices(1.0, 10**6, message_s=0.0) == 8
    assert most_slices(1.0, 10**6, message_s=math.inf) == 1


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([_chunk("x", number=2, of=2, bytes=5)], "out of order"),
        ([_chunk("x", bytes=5), _chunk("x", bytes=5)], "out of order"),
        ([_chunk("x", number=1, of=2, bytes=10)], "not those of its crossing"),
        ([_chunk("x", bytes=9)], "not those of its crossing"),
        ([_chunk("x", bytes=10), _chunk("y", bytes=1)], "not those of its crossing"),
        (
            [
                _chunk("x", number=1, of=2, bytes=5),
                _chunk("x", number=2, of=2, bytes=5, device_s=1.0),
            ],
            "out of order",
        ),
    ],
)
def test_chunks_that_are_not_the_crossing_s_are_refused(chunks: list[Chunk], words: str) -> None:
    with pytest.raises(PlannerError, match=words):
        check(chunks, [("x", 10)], "plan p")


# The programme --------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(seeds)
def test_where_messages_cost_nothing_no_plan_there_is_answers_sooner(rng: random.Random) -> None:
    problem, goal = _problem(rng, 4, 0.0), _latency(rng)
    value = min(latency_s(goal, each, UP_BPS) for each in every_plan(problem))
    found = soonest(problem, goal.at(UP_BPS), Limits(), below=value * 1.1 + 0.01)
    assert found.chosen is not None
    assert latency_s(goal, found.chosen, UP_BPS) == pytest.approx(value, abs=1e-5)
    assert found.bound == pytest.approx(value, abs=1e-5)


@settings(max_examples=80, deadline=None)
@given(seeds)
@example(random.Random(1292))  # noqa: S311  HiGHS's presolve fails on it
def test_the_bound_holds_for_every_plan_there_is(rng: random.Random) -> None:
    message_s = rng.choice([0.0, 0.001, 0.003, 0.01])
    problem, goal = _problem(rng, 4, message_s), _latency(rng)
    if rng.random() < 0.5:  # several answers, some of them made before the cut
        problem = replace(random_problem(rng, 4), message_s=message_s)
    limits = Limits(tensors=rng.choice([1.0, 2.0, math.inf]))
    allowed = [each for each in every_plan(problem) if limits.kept_by(each)]
    best = min((latency_s(goal, each, UP_BPS) for each in allowed), default=math.inf)
    found = soonest(problem, goal.at(UP_BPS), limits, below=10.0)
    assert found.bound <= best + 1e-5
    assert (found.chosen is None) == (not allowed)
    if found.chosen is not None:
        assert latency_s(goal, found.chosen, UP_BPS) >= best - 1e-5


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_nothing_is_found_below_the_best_there_is(rng: random.Random) -> None:
    problem, goal = _problem(rng, 4, 0.0), _latency(rng)
    value = min(latency_s(goal, each, UP_BPS) for each in every_plan(problem))
    below = value * 0.999 - 1e-4
    if below <= 0:
        return
    found = soonest(problem, goal.at(UP_BPS), Limits(), below=below)
    assert found.chosen is None
    assert found.bound == below


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_choice_and_table_hold_what_sending_ahead_saves(rng: random.Random) -> None:
    problem, goal = _problem(rng, 4, 0.0), _latency(rng)
    choice = choose(problem, goal.at(UP_BPS), ())
    assert choice is not None
    table = line_table(problem, goal, (), UP_BPS)
    found = sooner(problem, goal, (), choice, table, UP_BPS)
    every = list(every_plan(problem))

    def least(up_bps: float) -> float:
        return min(latency_s(goal, each, up_bps) for each in every)

    assert found.choice.value == pytest.approx(least(UP_BPS), abs=1e-5)
    assert found.choice.bound <= found.choice.value + found.choice.resolution + 1e-9
    assert latency_s(goal, found.choice.chosen, UP_BPS) == pytest.approx(found.choice.value)
    lows = [low for low, _, _ in found.rows]
    assert lows == sorted(lows)
    for low, high, chosen in found.rows:
        assert low < high
        middle = math.sqrt(low * high)
        known = min(latency_s(goal, row[2], middle) for row in found.rows)
        assert latency_s(goal, chosen, middle) == pytest.approx(known, abs=1e-6)
    mine = _named(found.rows, UP_BPS)
    assert latency_s(goal, mine, UP_BPS) == pytest.approx(found.choice.value, abs=1e-5)


def _named(rows: tuple[tuple[float, float, Chosen], ...], up_bps: float) -> Chosen:
    return next(chosen for low, high, chosen in rows if low <= up_bps < high)


def test_a_plan_that_takes_more_in_all_is_chosen_where_it_answers_sooner() -> None:
    """Two tensors of which the first travels while the device works, against one of more bytes."""
    graph = _chain({"a": 1, "b": 1}, (0.10, 0.20, 0.0))
    problem = Problem(
        graph=graph,
        device_s=(0.10, 0.20, 5.0),
        cloud_s=(0.0, 0.05, 0.0),
        ways={"in": (), "a": (_way(200_000),), "b": (_way(30_000),)},
        answer_bytes={"out": 0},
        message_s=0.001,
    )
    goal = Objective(fixed=Rates(device=1.0, cloud=1.0), pace=Rates(up=1.0))
    choice = choose(problem, goal.at(UP_BPS), ())
    assert choice is not None
    assert set(choice.chosen.crossing) == {"a"}  # 0.1 + 0.2 + 0.05 against 0.3 + 0.23
    assert choice.value == pytest.approx(0.35)
    table = line_table(problem, goal, (), UP_BPS)
    found = sooner(problem, goal, (), choice, table, UP_BPS)
    # a is across at 0.1 + 0.2 = 0.3, when b is ready (a message later): 0.301 + 0.03.
    assert set(found.choice.chosen.crossing) == {"a", "b"}
    assert found.choice.value == pytest.approx(0.331)
    assert not found.choice.exact_cut
    assert 0.3299 <= found.choice.bound <= found.choice.value


@settings(max_examples=10)
@given(seeds)
def test_without_a_price_of_messages_nothing_is_sent_ahead(rng: random.Random) -> None:
    problem = replace(_problem(rng, 4, 0.0), message_s=None)
    assert all(not each.chunks for each in every_plan(problem))
