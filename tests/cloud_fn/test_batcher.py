"""Requests that meet at a busy engine run together, and none pays for another's mistake."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloud_fn.errors import DeadlinePassed, Stopping
from cloud_fn.functions.batcher import Batcher
from cloud_fn.functions.curve import Curve
from cloud_fn.functions.joining import Form, Run
from cloud_fn.functions.settings import Batching
from cloud_fn.functions.trial import measure, prove, samples
from planner.graph import TensorInfo
from planner.infos import info_of

LIMIT_S = 20.0
FORM = Form.of([TensorInfo(name="x", datatype="FP32", shape=(-1, 2))], {})
FLAT = Curve(points=((1, 1.0), (8, 1.1)))

Array = np.ndarray[Any, Any]


def a_request(value: float = 1.0, rows: int = 1) -> dict[str, Array]:
    return {"x": np.full((rows, 2), value, np.float32)}


def double(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Refuses any batch with a negative number."""
    if (inputs["x"] < 0).any():
        raise ValueError("negative")
    return {"y": 2 * inputs["x"]}


class Engine:
    """Computes what it is given, and can be held at work."""

    def __init__(self, compute: Run) -> None:
        self._compute = compute
        self.batches: list[int] = []
        self.threads: list[int] = []
        self.most = 0
        self.held = False
        self._at_work = 0
        self._changed = threading.Condition()

    def __call__(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        with self._changed:
            self.batches.append(len(inputs["x"]))
            self.threads.append(threading.get_ident())
            self._at_work += 1
            self.most = max(self.most, self._at_work)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: not self.held, LIMIT_S)
            self._at_work -= 1
        return self._compute(inputs)

    def await_work(self, batches: int = 1) -> None:
        """Until so many have begun and not ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._at_work == batches, LIMIT_S)

    def let_go(self) -> None:
        with self._changed:
            self.held = False
            self._changed.notify_all()


class Rig:
    """A batcher whose engine can be held; ``now_s`` is its clock."""

    def __init__(self, *, width: int = 1, form: Form = FORM, compute: Run = double) -> None:
        self.engine = Engine(compute)
        self.now_s = 0.0
        self._row = a_request() if form is FORM else samples(form)[0]
        self.batcher = Batcher(
            self.engine, form, FLAT, Batching(max_size=8), width=width, clock=lambda: self.now_s
        )
        self._threads = ThreadPoolExecutor(4)

    def occupy(self, batches: int = 1) -> list["Future[Future[Any]]"]:
        """Have the engine busy with so many requests until it is let go."""
        self.engine.held = True
        held = []
        for number in range(batches):
            held.append(self._threads.submit(self.batcher.submit, self._row))
            self.engine.await_work(number + 1)
        return held

    def close(self) -> None:
        self.engine.let_go()
        self._threads.shutdown()
        self.batcher.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def first(answer: "Future[Any]") -> float:
    return float(answer.result(LIMIT_S)["y"][0, 0])


def test_a_lone_request_is_answered_in_its_own_thread_before_it_returns(rig: Rig) -> None:
    answer = rig.batcher.submit(a_request(3))
    assert answer.done()
    assert first(answer) == 6
    assert rig.engine.threads == [threading.get_ident()]


def test_requests_that_come_while_the_engine_is_busy_run_together(rig: Rig) -> None:
    held = rig.occupy()
    answers = [rig.batcher.submit(a_request(value)) for value in (1, 2, 3)]
    assert not any(each.done() for each in answers)
    rig.engine.let_go()
    assert [first(each) for each in answers] == [2, 4, 6]
    assert first(held[0].result(LIMIT_S)) == 2
    assert rig.engine.batches == [1, 3]


def test_the_one_that_held_the_engine_does_not_wait_for_those_after_it() -> None:
    """They run in threads of the batcher's own."""
    rig = Rig()
    rig.occupy()
    answer = rig.batcher.submit(a_request())
    rig.engine.let_go()
    first(answer)
    assert rig.engine.threads[1] not in (threading.get_ident(), rig.engine.threads[0])
    rig.close()


def test_as_many_batches_run_at_one_time_as_the_engine_is_wide() -> None:
    rig = Rig(width=2)
    rig.occupy(2)
    answers = [rig.batcher.submit(a_request()) for _ in range(3)]
    assert rig.engine.batches == [1, 1]
    rig.engine.let_go()
    assert [first(each) for each in answers] == [2] * 3
    rig.close()
    assert rig.engine.most == 2


def test_a_mistake_of_one_fails_that_one_alone(rig: Rig) -> None:
    rig.occupy()
    answers = [rig.batcher.submit(a_request(value)) for value in (1, -1, 3)]
    rig.engine.let_go()
    assert [first(answers[0]), first(answers[2])] == [2, 6]
    with pytest.raises(ValueError, match="negative"):
        answers[1].result(LIMIT_S)
    assert rig.engine.batches == [1, 3, 1, 1, 1]


def test_a_request_that_does_not_fit_is_never_joined(rig: Rig) -> None:
    rig.occupy()
    misfit = rig.batcher.submit({"z": np.ones((1, 2), np.float32)})
    answers = [rig.batcher.submit(a_request(value)) for value in (1, 2)]
    rig.engine.let_go()
    assert [first(each) for each in answers] == [2, 4]
    with pytest.raises(KeyError):
        misfit.result(LIMIT_S)
    assert rig.engine.batches == [1, 2]


def test_a_piece_whose_answers_cannot_be_cut_apart_is_not_batched_again() -> None:
    rig = Rig()
    rig.batcher._run = lambda inputs: {"y": rig.engine(inputs)["y"][:1]}
    for _ in range(2):
        rig.occupy()
        answers = [rig.batcher.submit(a_request(value)) for value in (1, 2)]
        rig.engine.let_go()
        assert [first(each) for each in answers] == [2, 4]
        rig.batcher.submit(a_request()).result(LIMIT_S)
    rig.close()
    assert rig.engine.batches == [1, 2, 1, 1, 1, 1, 1, 1, 1]


def test_batches_that_were_too_large_are_half_as_large_from_then_on() -> None:
    """Each of theirs was answered alone, so none was at fault."""

    def narrow(inputs: Mapping[str, Array]) -> dict[str, Array]:
        if len(inputs["x"]) > 2:
            raise MemoryError
        return double(inputs)

    rig = Rig(compute=narrow)
    for _ in range(2):
        rig.occupy()
        answers = [rig.batcher.submit(a_request(value)) for value in (1, 2, 3, 4)]
        rig.engine.let_go()
        assert [first(each) for each in answers] == [2, 4, 6, 8]
        rig.batcher.submit(a_request()).result(LIMIT_S)
    rig.close()
    assert rig.engine.batches == [1, 4, 1, 1, 1, 1, 1, 1, 2, 2, 1]


def test_who_waited_past_the_deadline_is_not_run(rig: Rig) -> None:
    rig.occupy()
    late = rig.batcher.submit(a_request(1), deadline_s=5.0)
    in_time = rig.batcher.submit(a_request(2), deadline_s=50.0)
    rig.now_s = 6.0
    rig.engine.let_go()
    assert first(in_time) == 4
    with pytest.raises(DeadlinePassed, match="until its deadline had passed"):
        late.result(LIMIT_S)
    assert rig.engine.batches == [1, 1]


def test_a_slower_machine_than_the_one_measured_makes_smaller_batches(rig: Rig) -> None:
    """Two together take 1.01 s on the curve, but 10 s here, which is past their deadline."""

    def slow(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        made = rig.engine(inputs)
        rig.now_s += 10.0
        return made

    rig.batcher._run = slow
    for _ in range(20):
        rig.batcher.submit(a_request())
    rig.occupy()
    until_s = rig.now_s + 15.0
    answers = [rig.batcher.submit(a_request(), deadline_s=until_s) for _ in range(2)]
    rig.engine.let_go()
    wait(answers, LIMIT_S)
    assert 2 not in rig.engine.batches


def test_what_is_cancelled_while_it_waits_does_not_run(rig: Rig) -> None:
    rig.occupy()
    answers = [rig.batcher.submit(a_request(value)) for value in (1, 2)]
    assert answers[0].cancel()
    rig.engine.let_go()
    assert first(answers[1]) == 4
    with pytest.raises(CancelledError):
        answers[0].result(LIMIT_S)
    assert rig.engine.batches == [1, 1]


def test_a_batcher_that_closes_refuses_what_waits_and_takes_nothing_new() -> None:
    rig = Rig()
    held = rig.occupy()
    waiting = rig.batcher.submit(a_request())
    rig.engine.held = True
    closing = threading.Thread(target=rig.batcher.close)
    closing.start()
    with pytest.raises(Stopping, match="send the request again later"):
        waiting.result(LIMIT_S)
    closing.join(LIMIT_S)
    with pytest.raises(Stopping, match="send the request again later"):
        rig.batcher.submit(a_request())
    rig.engine.let_go()
    assert first(held[0].result(LIMIT_S)) == 2
    rig.close()


@pytest.mark.parametrize("width", [1, 3])
def test_under_load_each_request_has_its_own_answer(width: int) -> None:
    """Every eighth is one that the engine refuses."""
    rig = Rig(width=width)
    rng = random.Random(7)  # noqa: S311  no secret
    values = [-1.0 if number % 8 == 7 else rng.uniform(0, 99) for number in range(400)]

    def ask(value: float) -> float | str:
        try:
            made = rig.batcher.submit(a_request(value, rows=1 + int(value) % 3)).result(LIMIT_S)
        except ValueError as error:
            return str(error)
        assert made["y"].shape == (1 + int(value) % 3, 2)
        assert (made["y"] == made["y"][0, 0]).all()
        return float(made["y"][0, 0])

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, values))
    rig.close()
    expected = ["negative" if each < 0 else float(2 * np.float32(each)) for each in values]
    assert answers == expected
    assert rig.engine.most <= width


def test_a_real_models_requests_are_proved_timed_and_answered_together(
    mlp: Callable[..., Path],
) -> None:
    proto = onnx.load(mlp())
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": np.asarray(session.run(["y"], dict(inputs))[0])}

    form = Form.of([info_of(value) for value in proto.graph.input], {})
    form = prove(run, form, samples(form))
    assert [size for size, _ in measure(run, form, (1, 2, 4)).points] == [1, 2, 4]
    rig = Rig(form=form, compute=run)
    rig.occupy()
    rng = np.random.default_rng(3)
    asked = [{"x": rng.standard_normal((rows, 4)).astype(np.float32)} for rows in (1, 2, 3)]
    answers = [rig.batcher.submit(each) for each in asked]
    rig.engine.let_go()
    for each, answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(answer.result(LIMIT_S)["y"], run(each)["y"], rtol=1e-5)
    rig.close()
    assert rig.engine.batches == [1, 6]
