"""Op times corrected by cuts that were really run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.anchors import MOST, corrected, expected_s, to_run
from planner.graph import Graph, Op, TensorInfo
from planner.profiles import Anchor, Part


def a_chain(ops: int) -> Graph:
    """t0 -> op0 -> t1 -> op1 -> ..., with tensors that shrink."""
    tensors = {
        f"t{at}": TensorInfo(name=f"t{at}", datatype="FP32", shape=(ops + 1 - at,))
        for at in range(ops + 1)
    }
    return Graph(
        ops=tuple(
            Op(
                name=f"op{at}",
                kind="Relu",
                inputs=(f"t{at}",),
                outputs=(f"t{at + 1}",),
            )
            for at in range(ops)
        ),
        tensors=tensors,
        sources=("t0",),
        answers=(f"t{ops}",),
    )


def an_anchor(expected: float, rest: float, head: float, tail: float) -> Anchor:
    return Anchor(
        crossing=("t",),
        raw_bytes=4,
        head_s=head,
        tail_s=tail,
        head_expected_s=expected,
        tail_expected_s=rest,
    )


def test_the_cuts_to_run_lie_near_their_targets_and_are_the_narrowest_there() -> None:
    graph = a_chain(100)
    times = {op.name: 1.0 for op in graph.ops}
    found = to_run(graph, times)
    assert [place.after for place in found] == [11, 21, 41, 66, 91]  # a chain narrows as it goes
    assert expected_s(graph, times, found[0]) == (11.0, 89.0)


def test_where_one_op_takes_most_of_the_time_the_nearest_cuts_to_it_are_run() -> None:
    graph = a_chain(20)
    times = {op.name: 80.0 if op.name == "op9" else 1.0 for op in graph.ops}
    assert {9, 10} <= {place.after for place in to_run(graph, times)}


def test_a_model_too_small_to_cut_has_no_anchors() -> None:
    graph = a_chain(1)
    assert to_run(graph, {"op0": 1.0}) == ()
    assert to_run(a_chain(5), dict.fromkeys((f"op{at}" for at in range(5)), 0.0)) == ()


def test_heads_take_what_a_head_took_and_tails_what_a_tail_did() -> None:
    graph = a_chain(10)
    times = {op.name: 1.0 for op in graph.ops}
    anchor = an_anchor(5.0, 5.0, 6.0, 3.0)
    heads = corrected(graph, times, [anchor], "head")
    assert sum(heads[f"op{at}"] for at in range(5)) == pytest.approx(6.0)
    assert heads["op0"] == pytest.approx(1.2)
    tails = corrected(graph, times, [anchor], "tail")
    assert sum(tails[f"op{at}"] for at in range(5, 10)) == pytest.approx(3.0)
    assert tails["op9"] == pytest.approx(0.6)
    assert sum(heads.values()) == pytest.approx(sum(tails.values())) == pytest.approx(10.0)


def test_an_anchor_that_contradicts_the_one_before_is_left_out() -> None:
    graph = a_chain(10)
    times = {op.name: 1.0 for op in graph.ops}
    sane, odd = an_anchor(5.0, 5.0, 6.0, 4.0), an_anchor(7.0, 3.0, 5.0, 5.0)
    for part in ("head", "tail"):
        assert corrected(graph, times, [sane, odd], part) == corrected(graph, times, [sane], part)


@pytest.mark.parametrize("part", ["head", "tail"])
@given(
    times=st.lists(st.floats(0, 10), min_size=2, max_size=30).filter(lambda each: sum(each) > 0.1),
    cuts=st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), max_size=4),
)
def test_times_stay_sane_and_add_up_whatever_the_anchors_say(
    part: Part, times: list[float], cuts: list[tuple[float, float]]
) -> None:
    graph = a_chain(len(times))
    seconds = {f"op{at}": spent for at, spent in enumerate(times)}
    total = sum(times)
    anchors = [
        an_anchor(total * (at + 1) / 5, total * (4 - at) / 5, head, tail)
        for at, (head, tail) in enumerate(cuts)
    ]
    found = corrected(graph, seconds, anchors, part)
    assert sum(found.values()) == pytest.approx(total)
    for name, spent in seconds.items():
        assert spent / MOST**2 - 1e-9 <= found[name] <= spent * MOST**2 + 1e-9
