"""Which requests run together, how they are joined and cut apart, and what batches take."""
# ruff: noqa: ANN401  (arrays are of any type)

import math
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fn.functions.batching import Choice, Waiting, plan
from cloud_fn.functions.curve import Curve, pays
from cloud_fn.functions.joining import Extent, Form, Unbatchable
from cloud_fn.functions.trial import measure, prove, samples
from planner.graph import TensorInfo

CURVE = Curve(points=((1, 1.0), (2, 1.2), (4, 1.6), (8, 2.4)))
"""0.8 s, and 0.2 s more for each row."""

Array = np.ndarray[Any, Any]


def info(name: str, *shape: int, datatype: str = "FP32") -> TensorInfo:
    return TensorInfo(name=name, datatype=datatype, shape=shape)


def a_form(pad: Mapping[str, float] | None = None) -> Form:
    """``x`` with any rows of any length, and a ``mask`` of the same."""
    infos = [info("x", -1, -1, 2), info("mask", -1, -1, datatype="INT64")]
    return Form.of(infos, {"x": 0.0, "mask": 0} if pad is None else pad)


def a_request(rows: int = 1, length: int = 3, value: float = 1.0) -> dict[str, Array]:
    x = np.full((rows, length, 2), value, np.float32)
    return {"x": x, "mask": np.ones((rows, length), np.int64)}


def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """A network that heeds its mask."""
    masked = inputs["x"] * inputs["mask"][:, :, None]
    return {"each": masked * 3, "sum": masked.sum(axis=1)}


def waiting(rows: int = 1, deadline_s: float | None = None, key: str = "k", **more: Any) -> Waiting:
    return Waiting(extent=Extent(key=key, rows=rows, **more), deadline_s=deadline_s)


def choose(*queue: Waiting, now_s: float = 0.0, **limits: Any) -> Choice:
    return plan(queue, CURVE, now_s, **({"max_size": 8, "max_wait_s": 60.0} | limits))


def test_a_lone_request_runs_whatever_the_limits() -> None:
    assert choose(waiting(rows=99, deadline_s=0.1), max_size=2, max_wait_s=0.0) == Choice((0,), ())


def test_nobody_waits_nobody_runs() -> None:
    assert choose() == Choice((), ())


def test_what_is_alike_runs_together_up_to_the_size() -> None:
    assert choose(*[waiting()] * 10) == Choice(tuple(range(8)), ())
    assert choose(waiting(3), waiting(4), waiting(2), waiting(1)) == Choice((0, 1, 3), ())


def test_what_differs_or_must_run_alone_waits_for_its_turn() -> None:
    other, alone = waiting(key="other"), Waiting(extent=None)
    assert choose(waiting(), other, alone, waiting()) == Choice((0, 3), ())
    assert choose(other, waiting(), waiting()) == Choice((0,), ())
    assert choose(alone, alone) == Choice((0,), ())


def test_a_batch_does_not_grow_past_the_earliest_deadline_in_it() -> None:
    """Two rows take 1.2 s and three 1.4 s."""
    assert choose(waiting(deadline_s=1.3), waiting(), waiting()) == Choice((0, 1), ())
    assert choose(waiting(), waiting(deadline_s=1.1), waiting()) == Choice((0, 2), ())
    assert choose(waiting(deadline_s=1.3), waiting(), pace=2.0) == Choice((0,), ())


def test_who_came_too_late_does_not_run() -> None:
    queue = (waiting(deadline_s=1.0), waiting(deadline_s=3.0), waiting(deadline_s=1.9))
    assert choose(*queue, now_s=2.0) == Choice((1,), (0, 2))
    assert choose(queue[0], now_s=2.0) == Choice((), (0,))


def test_nobody_takes_much_longer_for_the_sake_of_others() -> None:
    assert choose(*[waiting()] * 8, max_wait_s=0.5) == Choice((0, 1, 2), ())
    assert choose(waiting(8), waiting(), max_wait_s=0.5, max_size=16) == Choice((0,), ())


def test_what_would_not_be_over_sooner_is_not_joined() -> None:
    """Beyond what was measured, the curve promises no gain; nor may a row be padded at any cost."""
    assert choose(waiting(8), waiting(8), max_size=64) == Choice((0,), ())
    curve = Curve(points=((0.25, 0.5), (1, 2.0), (2, 3.9)), length=100)
    short, long = waiting(length=10), waiting(length=100)
    assert plan((long, short, long), curve, 0, max_size=8, max_wait_s=60) == Choice((0, 2), ())


queues = st.lists(
    st.builds(
        Waiting,
        extent=st.none()
        | st.builds(
            Extent, key=st.sampled_from("ab"), rows=st.integers(1, 9), length=st.integers(1, 200)
        ),
        deadline_s=st.none() | st.floats(0, 20),
    ),
    max_size=12,
)
curves = st.builds(
    lambda steps, length: Curve(
        points=tuple(
            zip((0.5, 1, 2, 4, 8), np.cumsum(np.array(steps) + 1e-3).tolist(), strict=True)
        ),
        length=length,
    ),
    st.lists(st.floats(0, 2), min_size=5, max_size=5),
    st.sampled_from([0, 50]),
)


@given(queues, curves, st.floats(0, 20), st.integers(1, 16), st.floats(0, 5), st.floats(0.1, 10))
def test_every_choice_keeps_to_the_rules(
    queue: list[Waiting], curve: Curve, now_s: float, size: int, wait_s: float, pace: float
) -> None:
    choice = plan(queue, curve, now_s, max_size=size, max_wait_s=wait_s, pace=pace)
    late = [each.deadline_s is not None and each.deadline_s < now_s for each in queue]
    assert [at in choice.expired for at in range(len(queue))] == late
    assert sorted(set(choice.run)) == list(choice.run)
    assert choice.run[:1] == tuple(at for at in range(len(queue)) if not late[at])[:1]
    if len(choice.run) < 2:
        return
    extents = [extent for at in choice.run if (extent := queue[at].extent) is not None]
    assert len(extents) == len(choice.run)
    assert len({each.key for each in extents}) == 1
    rows, longest = sum(each.rows for each in extents), max(each.length for each in extents)
    seconds = pace * curve.seconds(rows, longest)
    alone_s = [pace * curve.seconds(each.rows, each.length) for each in extents]
    deadlines_s = [each for at in choice.run if (each := queue[at].deadline_s) is not None]
    assert rows <= size
    assert now_s + seconds <= min(deadlines_s, default=math.inf)
    assert seconds - min(alone_s) <= wait_s
    assert seconds < sum(alone_s)


@given(queues, curves)
def test_everybody_has_a_turn(queue: list[Waiting], curve: Curve) -> None:
    left = [Waiting(extent=each.extent) for each in queue]
    for _ in queue:
        choice = plan(left, curve, 0.0, max_size=8, max_wait_s=1.0)
        left = [each for at, each in enumerate(left) if at not in choice.run]
    assert left == []


requests = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.floats(-9, 9)), min_size=1, max_size=6
)


@given(requests)
def test_requests_of_any_length_are_answered_together_as_alone(
    given_requests: list[tuple[int, int, float]],
) -> None:
    form = a_form().cutting(frozenset({"each"}))
    inputs = [a_request(*each) for each in given_requests]
    extents = [extent for each in inputs if (extent := form.extent(each)) is not None]
    parts = form.split(run(form.join(inputs, extents)), extents)
    for each, part in zip(inputs, parts, strict=True):
        for name, value in run(each).items():
            np.testing.assert_array_equal(part[name], value)


def test_a_single_request_is_handed_on_as_it_is_and_answers_are_views() -> None:
    form = a_form()
    one = a_request()
    extent = form.extent(one)
    assert extent == Extent(key=((2,), ()), rows=1, length=3)
    assert form.join([one], [extent]) is one
    made = run(form.join([one, one], [extent, extent]))
    parts = form.split(made, [extent, extent])
    assert [each["sum"].base is not None for each in parts] == [True, True]


@pytest.mark.parametrize(
    "changes",
    [
        {"x": None},
        {"y": np.zeros(1)},
        {"x": np.ones((1, 3, 2), np.float64)},
        {"x": np.ones((1, 3, 2), complex)},
        {"x": np.ones((1, 3, 9), np.float32)},
        {"x": np.ones((1, 3), np.float32)},
        {"x": np.ones((2, 3, 2), np.float32)},
        {"x": np.ones((1, 4, 2), np.float32)},
        {"x": np.ones((0, 3, 2), np.float32), "mask": np.ones((0, 3), np.int64)},
        {"x": np.ones((1, 0, 2), np.float32), "mask": np.ones((1, 0), np.int64)},
    ],
)
def test_a_request_that_does_not_fit_runs_alone(changes: dict[str, Array | None]) -> None:
    inputs = {name: each for name, each in (a_request() | changes).items() if each is not None}
    assert a_form().extent(inputs) is None


def test_without_padding_only_the_same_lengths_go_together() -> None:
    form = a_form(pad={})
    keys = [extent.key for n in (3, 3, 4) if (extent := form.extent(a_request(length=n)))]
    assert (keys[0] == keys[1], keys[0] == keys[2]) == (True, False)


@pytest.mark.parametrize(
    ("infos", "pad", "sentence"),
    [
        ([info("x", 1, 3)], {}, "axis 0 of input 'x' is fixed: publish the model with a dynamic"),
        ([info("x", -1), info("n")], {}, "axis 0 of input 'n' is fixed"),
        ([info("x", -1, 3)], {"y": 0}, "batching.pad names 'y': the model's inputs are x"),
        ([info("x", -1, 3)], {"x": 0}, "names 'x', whose axis 1 is fixed: leave it out"),
        ([info("x", -1)], {"x": 0}, "names 'x', whose axis 1 is fixed: leave it out"),
        ([info("x", -1, -1, datatype="BYTES")], {"x": 0}, "'x', which holds no numbers"),
        ([info("x", -1, -1, datatype="INT8")], {"x": 200}, "gives 'x' 200, which is no INT8"),
        ([info("x", -1, -1, datatype="INT8")], {"x": 0.5}, "gives 'x' 0.5, which is no INT8"),
        ([info("x", -1, -1, datatype="BOOL")], {"x": 2}, "gives 'x' 2, which is no BOOL"),
    ],
)
def test_a_model_that_cannot_be_batched_so_says_why(
    infos: list[TensorInfo], pad: dict[str, float], sentence: str
) -> None:
    with pytest.raises(Unbatchable) as caught:
        Form.of(infos, pad)
    assert sentence in str(caught.value)


def test_a_batchs_answers_must_have_its_rows_and_its_length() -> None:
    extents = [Extent(key=(), rows=1, length=3), Extent(key=(), rows=2, length=4)]
    form = a_form().cutting(frozenset({"each"}))
    for made in (np.zeros(()), np.zeros((2, 4)), np.zeros(3), np.zeros((3, 5))):
        with pytest.raises(Unbatchable, match=r"^output 'each' has shape "):
            form.split({"each": made}, extents)


def test_publishing_finds_which_outputs_are_padded() -> None:
    form = a_form()
    assert prove(run, form, samples(form)).cut == {"each"}


def test_a_model_whose_rows_meet_or_whose_mask_is_not_heeded_is_not_batched() -> None:
    def mixing(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": inputs["x"] - inputs["x"].mean()}

    def unmasked(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": inputs["x"].mean(axis=1)}

    def scalar(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": np.array(inputs["x"].sum())}

    def only_one(inputs: Mapping[str, Array]) -> dict[str, Array]:
        if len(inputs["x"]) > 1:
            raise ValueError("one row\nonly")
        return {"y": inputs["x"]}

    plain = Form.of([info("x", -1, 4)], {})
    for broken, form, sentence in (
        (mixing, plain, "output 'y' is another when two requests run together"),
        (unmasked, a_form(), "run together: batching.pad must name the model's mask"),
        (scalar, plain, r"output 'y' has shape \[\] for 2 rows of input"),
        (only_one, plain, "the model cannot run on two requests at once: one row only"),
    ):
        with pytest.raises(Unbatchable, match=sentence):
            prove(broken, form, samples(form))


def test_rounding_of_another_order_is_no_difference_but_a_wrong_class_is() -> None:
    def noisy(inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = len(inputs["x"])
        return {"y": inputs["x"] * np.float32(1 + 1e-6 * rows)}

    def classes(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": np.full(len(inputs["x"]), len(inputs["x"]))}

    form = Form.of([info("x", -1, 4)], {})
    assert prove(noisy, form, samples(form)) == form
    with pytest.raises(Unbatchable, match="output 'y' is another"):
        prove(classes, form, samples(form))


class Stopwatch:
    """A clock that a run moves on by what the batch's size says."""

    def __init__(self, seconds: Callable[[float], float]) -> None:
        self.now_s = 0.0
        self.rows: list[int] = []
        self._seconds = seconds

    def __call__(self) -> float:
        return self.now_s

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows, length = inputs["x"].shape[:2]
        self.rows.append(rows)
        self.now_s += self._seconds(rows * length / 64)
        return {}


def test_the_curve_is_what_batches_take_and_batching_pays_if_it_is_flat() -> None:
    form = Form.of([info("x", -1, 64)], {})
    watch = Stopwatch(lambda size: 0.008 + 0.002 * size)
    curve = measure(watch.run, form, (1, 4, 8), clock=watch)
    assert [size for size, _ in curve.points] == [1, 4, 8]
    assert [curve.seconds(rows) for rows in (1, 2, 4, 8, 16)] == pytest.approx(
        [0.010, 0.012, 0.016, 0.024, 0.048]
    )
    assert curve.gain == pytest.approx(8 * 0.010 / 0.024)
    assert pays(curve)
    steep = Stopwatch(lambda size: 0.01 * size)
    assert not pays(measure(steep.run, form, (1, 4, 8), clock=steep))
    assert msgspec.json.decode(msgspec.json.encode(curve), type=Curve) == curve


def test_where_requests_are_padded_short_ones_are_timed_too() -> None:
    form = Form.of([info("x", -1, -1)], {"x": 0})
    watch = Stopwatch(lambda size: 0.01 * size)
    curve = measure(watch.run, form, (1, 2), clock=watch)
    assert [size for size, _ in curve.points] == [0.25, 0.5, 1, 2]
    assert curve.length == 64
    assert [curve.seconds(1, n) for n in (8, 16, 48, 64)] == pytest.approx(
        [0.0025, 0.0025, 0.0075, 0.01]
    )
    assert not pays(curve)


def test_a_curve_never_falls_and_measuring_it_ends() -> None:
    form = Form.of([info("x", -1, 64)], {})
    number = count()
    falling = Stopwatch(lambda _: 1.0 / (1 + next(number)))
    seconds = [each for _, each in measure(falling.run, form, (1, 2, 4), clock=falling).points]
    assert seconds == sorted(seconds)
    slow = Stopwatch(lambda _: 25.0)
    assert [size for size, _ in measure(slow.run, form, (1, 2, 4), clock=slow).points] == [1]


def test_sizes_that_would_take_too_long_are_left_out_but_for_two_rows() -> None:
    form = Form.of([info("x", -1, 64)], {})
    watch = Stopwatch(lambda size: size)
    curve = measure(watch.run, form, budget_s=4.0, clock=watch)
    assert [size for size, _ in curve.points] == [1, 2]
    assert watch.now_s == 6.0


def test_sizes_that_the_piece_cannot_run_on_are_left_out() -> None:
    form = Form.of([info("x", -1, 64)], {})

    def narrow(inputs: Mapping[str, Array], most: int) -> dict[str, Array]:
        if len(inputs["x"]) > most:
            raise ValueError("too many")
        return {}

    curve = measure(lambda inputs: narrow(inputs, 2), form, (1, 2, 4, 8))
    assert [size for size, _ in curve.points] == [1, 2]
    with pytest.raises(Unbatchable, match="the model cannot run on one row: too many"):
        measure(lambda inputs: narrow(inputs, 0), form)
    with pytest.raises(Unbatchable, match="must be one row that the model takes"):
        measure(run, a_form(), row=a_request(rows=2))


@pytest.mark.parametrize(
    "points",
    [(), ((2, 1.0),), ((1, 0.0),), ((1, 2.0), (2, 1.0)), ((1, 1.0), (1, 1.0)), ((1, math.inf),)],
)
def test_what_is_no_curve_is_refused(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="points must "):
        Curve(points=points)
