"""The cut is exact: every small graph is checked against all of its ideals."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.graph import Graph, Op, TensorInfo
from planner.solve.mincut import Prices, cost_of, min_cut
from testbed.bench.reference import by_brute_force, by_networkx

Case = tuple[Graph, Prices]

seconds = st.integers(0, 1000).map(lambda n: n / 1000)


def a_graph(inputs: list[list[str]], answers: tuple[str, ...], source: str = "x") -> Graph:
    ops = tuple(
        Op(name=f"op{i}", kind="Op", inputs=tuple(names), outputs=(f"t{i}",))
        for i, names in enumerate(inputs)
    )
    names = [source, *(f"t{i}" for i in range(len(ops)))]
    tensors = {n: TensorInfo(name=n, datatype="FP32", shape=(1,)) for n in names}
    return Graph(ops=ops, tensors=tensors, sources=(source,), answers=answers)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Up to 7 ops, tensors with several readers, ops that are faster on the device."""
    count = draw(st.integers(1, 7))
    inputs = []
    for i in range(count):
        before = ["x", *(f"t{j}" for j in range(i))]
        inputs.append(draw(st.lists(st.sampled_from(before), min_size=1, max_size=3, unique=True)))
    answers = draw(
        st.lists(
            st.sampled_from([f"t{i}" for i in range(count)]), min_size=1, max_size=2, unique=True
        )
    )
    graph = a_graph(inputs, tuple(answers))
    names = list(graph.consumers) + [n for n in answers if n not in graph.consumers]
    prices = Prices(
        device=tuple(draw(seconds) for _ in range(count)),
        cloud=tuple(draw(seconds) for _ in range(count)),
        crossing={name: draw(st.one_of(seconds, st.just(math.inf))) for name in names},
        answer={name: draw(seconds) for name in answers},
        round_trip=draw(seconds),
        stay=draw(st.one_of(st.just(0.0), seconds)),
    )
    return graph, prices


@settings(max_examples=300, deadline=None)
@given(cases())
def test_the_cut_costs_what_the_best_of_all_ideals_costs(case: Case) -> None:
    graph, prices = case
    found = min_cut(graph, prices)
    assert graph.is_ideal(found.head)
    assert found.cost == pytest.approx(by_brute_force(graph, prices), abs=found.resolution)
    assert found.cost == pytest.approx(cost_of(graph, prices, found.head))
    assert abs(found.cost - found.cut_value) <= found.resolution


@settings(max_examples=100, deadline=None)
@given(cases())
def test_networkx_finds_the_same_value(case: Case) -> None:
    graph, prices = case[0], replace(case[1], stay=0.0)
    found = min_cut(graph, prices)
    assert found.cost == pytest.approx(by_networkx(graph, prices), abs=1e-6 + found.resolution)


def test_a_tensor_with_three_readers_is_paid_for_once() -> None:
    graph = a_graph([["x"], ["t0"], ["t0"], ["t0", "t1", "t2"]], ("t3",))
    prices = Prices(
        device=(0.1, 9.0, 9.0, 9.0),
        cloud=(9.0, 0.1, 0.1, 0.1),
        crossing={"x": 5.0, "t0": 1.0, "t1": 1.0, "t2": 1.0},
        answer={"t3": 0.2},
        round_trip=0.5,
    )
    found = min_cut(graph, prices)
    assert found.head == {0}
    assert found.cost == pytest.approx(0.1 + 1.0 + 0.3 + 0.2 + 0.5)


def test_an_answer_may_leave_a_device_whose_software_is_slow() -> None:
    """What only the device alone pays can make the next best head the best."""
    graph = a_graph([["x"], ["t0"]], ("t1",))
    prices = Prices(
        device=(0.1, 0.1),
        cloud=(0.1, 0.1),
        crossing={"x": 0.3, "t0": 0.2},
        answer={"t1": 0.0},
        round_trip=0.1,
    )
    assert min_cut(graph, prices).head == {0, 1}
    assert min_cut(graph, replace(prices, stay=0.2)).head == {0, 1}
    assert min_cut(graph, replace(prices, stay=0.4)).head == {0}


def test_nothing_runs_on_the_device_after_the_cloud() -> None:
    """DADS's graph as published has no reverse arcs and returns this op for free."""
    graph = a_graph([["x"], ["t0"]], ("t1",))
    prices = Prices(
        device=(9.0, 0.0),
        cloud=(0.0, 9.0),
        crossing={"x": 0.1, "t0": 0.1},
        answer={"t1": 0.0},
        round_trip=0.0,
    )
    found = min_cut(graph, prices)
    assert found.cost == pytest.approx(9.0)


def test_prices_below_zero_and_nan_never_reach_the_solver() -> None:
    for price in (-1.0, math.nan):
        with pytest.raises(ValueError, match="prices must be >= 0"):
            Prices(device=(price,), cloud=(0.0,), crossing={}, answer={}, round_trip=0.0)
