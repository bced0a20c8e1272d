"""When an instance opens the graph for several requests, and who runs on it."""
# ruff: noqa: ANN401  (fakes of ONNX Runtime's; arrays are of any type)

import dataclasses
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from PIL import Image

from cloud_fn.errors import DeadlinePassed
from cloud_fn.functions import Function, together
from cloud_fn.functions.batcher import Batcher
from cloud_fn.functions.curve import Curve
from cloud_fn.functions.instance import Instance
from cloud_fn.functions.settings import Batching
from cloud_fn.functions.several import Several
from cloud_fn.functions.together import Together
from cloud_fn.registry import Catalog, batching
from cloud_fn.registry.push import push
from planner.errors import InputError, ModelError
from planner.graph import TensorInfo
from planner.pieces import Piece
from protos import wire
from protos.invocation import Request, Tensor
from tests.cloud_fn.conftest import STEPS

LIMIT_S = 20.0
CURVE = Curve(points=((0.5, 0.9), (1, 1.0), (8, 1.1)), length=4)

Array = np.ndarray[Any, Any]


def mean(inputs: Mapping[str, Array]) -> Array:
    """Of each row, over what its mask leaves."""
    mask = inputs["mask"].astype(np.float32)
    weighed: Array = (inputs["x"] * mask).sum(axis=1) / np.maximum(1, mask.sum(axis=1))
    return weighed


class Held:
    """A piece and a session, either of which can be held at work. ``rows`` are the session's."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.alone = 0
        self.opened = 0
        self.error: Exception | None = None
        self._free = threading.Event()
        self._free.set()
        self._changed = threading.Condition()
        self._at_work = 0

    def network(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.alone += 1
        if feeds["x"].shape != (1, 4):
            raise InputError("the graph for one row takes no other shape")
        with self._changed:
            self._at_work += 1
            self._changed.notify_all()
        assert self._free.wait(LIMIT_S)
        with self._changed:
            self._at_work -= 1
        return {"y": mean(feeds)}

    def hold(self) -> None:
        self._free.clear()

    def let_go(self) -> None:
        self._free.set()

    def await_work(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._at_work == count, LIMIT_S)

    def open(self) -> Any:
        self.opened += 1
        if self.error is not None:
            raise self.error
        return self

    def get_outputs(self) -> Any:
        return [SimpleNamespace(name="y")]

    def run(self, names: list[str], feeds: dict[str, Array]) -> list[Array]:
        assert names == ["y"]
        self.rows.append(len(feeds["x"]))
        return [mean(feeds)]


def several(held: Held, *, length: int = -1, **settings: Any) -> Several:
    shape = (-1, length)
    return Several(
        open=held.open,
        inputs=tuple(
            TensorInfo(name=name, datatype=datatype, shape=shape)
            for name, datatype in (("x", "FP32"), ("mask", "INT64"))
        ),
        usual={"x": (1, 4), "mask": (1, 4)},
        curve=CURVE,
        settings=Batching(**settings),
    )


def a_request(value: float, length: int = 4) -> dict[str, Array]:
    return {
        "x": np.full((1, length), value, np.float32),
        "mask": np.ones((1, length), np.int64),
    }


class Rig:
    def __init__(self, *, length: int = 4, **settings: Any) -> None:
        self.held = Held()
        self.several = several(self.held, length=length, **settings)
        self.together = Together()
        self._threads = ThreadPoolExecutor(8)

    def ask(self, value: float, length: int = 4, deadline_s: float | None = None) -> float:
        piece: Any = self.held
        with self.together.visit(piece, self.several, deadline_s=deadline_s) as visit:
            made = (visit.network or piece.network)(a_request(value, length))
        return float(made["y"][0])

    def start(self, value: float, length: int = 4, **more: Any) -> "Future[float]":
        return self._threads.submit(self.ask, value, length, **more)

    def crowd(self) -> None:
        """Two requests at once, and whatever that has opened."""
        self.held.hold()
        two = [self.start(1), self.start(2)]
        self.held.await_work(2)
        assert self.together._asked is not None
        self.together._asked.join(LIMIT_S)
        self.held.let_go()
        assert [each.result(LIMIT_S) for each in two] == [1, 2]
        if self.together._joint is not None:
            self.came = queued(self.together._joint)

    def queue(self, *requests: tuple[float, int]) -> list["Future[float]"]:
        """Have these wait while another runs; then let all go."""
        self.held.hold()
        first = self.start(9)
        self.held.await_work(1)
        waiting = []
        for request in requests:
            waiting.append(self.start(*request))
            assert self.came.acquire(timeout=LIMIT_S)
        self.held.let_go()
        assert first.result(LIMIT_S) == 9
        return waiting

    def close(self) -> None:
        self.held.let_go()
        self._threads.shutdown()


def queued(batcher: Batcher) -> threading.Semaphore:
    """Released for each request that waits from now on: whoever runs at once is held at work."""
    submit, came = batcher.submit, threading.Semaphore(0)

    def counted(*args: Any) -> Any:
        answer = submit(*args)
        came.release()
        return answer

    batcher.submit = counted  # type: ignore[assignment, method-assign]
    return came


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine of one processor."""
    monkeypatch.setattr(Several, "width", 1)


@pytest.fixture
def build() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def make(**settings: Any) -> Rig:
        rigs.append(Rig(**settings))
        return rigs[-1]

    yield make
    for each in rigs:
        each.close()


def test_requests_that_never_meet_open_nothing(build: Callable[..., Rig]) -> None:
    rig = build()
    assert [rig.ask(number) for number in range(5)] == [0, 1, 2, 3, 4]
    assert (rig.held.opened, rig.held.alone, rig.together._asked) == (0, 5, None)


def test_the_graph_for_several_is_opened_once_beside_those_that_met(
    build: Callable[..., Rig],
) -> None:
    rig = build()
    rig.crowd()
    assert (rig.held.opened, rig.held.rows) == (1, [])
    rig.queue()
    assert rig.held.opened == 1


def test_from_then_on_those_that_wait_run_together_and_a_lone_one_on_the_graph_for_one(
    build: Callable[..., Rig],
) -> None:
    rig = build()
    rig.crowd()
    waiting = rig.queue((1, 4), (2, 4), (3, 4))
    assert [each.result(LIMIT_S) for each in waiting] == [1, 2, 3]
    assert rig.held.rows == [3]
    alone = rig.held.alone
    assert rig.ask(5) == 5
    assert (rig.held.rows, rig.held.alone) == ([3], alone + 1)


def test_a_request_that_comes_too_late_does_not_run(build: Callable[..., Rig]) -> None:
    rig = build()
    rig.crowd()
    rig.held.hold()
    first = rig.start(9)
    rig.held.await_work(1)
    late = rig.start(1, deadline_s=0.0)
    assert rig.came.acquire(timeout=LIMIT_S)
    rig.held.let_go()
    assert first.result(LIMIT_S) == 9
    with pytest.raises(DeadlinePassed):
        late.result(LIMIT_S)


@pytest.mark.parametrize("error", [ModelError("damaged"), OSError("gone"), MemoryError()])
def test_a_graph_that_cannot_be_opened_is_tried_once_and_costs_no_request(
    build: Callable[..., Rig], error: Exception
) -> None:
    rig = build()
    rig.held.error = error
    rig.crowd()
    rig.held.hold()
    again = [rig.start(3), rig.start(4)]
    rig.held.await_work(2)
    rig.held.let_go()
    assert [each.result(LIMIT_S) for each in again] == [3, 4]
    assert rig.held.opened == 1


def test_a_copy_of_the_weights_that_has_no_room_is_not_made(
    build: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = build()
    rig.several = dataclasses.replace(rig.several, copy_bytes=1 << 20)
    monkeypatch.setattr(together, "has_room", lambda *_: False)
    rig.crowd()
    assert rig.held.opened == 0


def test_where_lengths_may_differ_other_ones_run_on_the_graph_for_several_from_the_first_on(
    build: Callable[..., Rig],
) -> None:
    rig = build(length=-1, pad={"x": 0.0, "mask": 0})
    assert rig.ask(3) == 3
    assert rig.held.opened == 0
    assert rig.ask(3, 6) == 3
    assert (rig.held.opened, rig.held.rows[-1]) == (1, 1)


def test_requests_of_different_lengths_run_together_once_their_padding_is_proven(
    build: Callable[..., Rig],
) -> None:
    rig = build(length=-1, pad={"x": 0.0, "mask": 0})
    rig.crowd()
    waiting = rig.queue((1, 4), (2, 2), (3, 3))
    assert [each.result(LIMIT_S) for each in waiting] == [1, 2, 3]
    assert rig.held.rows[-1] == 3


def test_padding_that_changes_an_answer_joins_nobody_of_another_length(
    build: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    """A mask of ones over what was padded weighs it like the rest."""
    rig = build(length=-1, pad={"x": 0.0, "mask": 1})
    rig.crowd()
    rig.held.rows.clear()
    waiting = rig.queue((1, 4), (2, 2), (3, 4), (4, 2))
    assert [each.result(LIMIT_S) for each in waiting] == [1, 2, 3, 4]
    assert rig.held.rows == [2, 2]
    assert "batching.pad must name the model's mask" in caplog.text


def an_image(colour: str) -> Array:
    file = io.BytesIO()
    Image.new("RGB", (5, 4), colour).save(file, "PNG")
    return np.array([file.getvalue()], object)


@pytest.fixture
def loose_colours(
    catalog: Catalog, colours: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Function:
    """The model with steps around it, published with any number of rows."""
    path, steps = colours
    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "rows"
    onnx.save(model, str(path))
    assert json.loads(steps.read_text()) == STEPS
    monkeypatch.setattr(batching, "measure", lambda *_, **__: Curve(points=((1, 1.0), (8, 1.1))))
    manifest, _ = push(catalog, path, name="colours", steps=steps)
    return Function.of(manifest, catalog)


def label(instance: Instance, colour: str) -> bytes:
    inputs = (Tensor.of("bytes", an_image(colour)),)
    done = instance.execute(wire.encode_request(Request(model="colours", inputs=inputs)))
    answer: bytes = wire.decode_reply(done.body).outputs[0].array()[0]
    return answer


def test_an_instance_runs_each_requests_steps_and_their_network_together(
    loose_colours: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, two = Piece.network, threading.Barrier(2)

    def meeting(piece: Piece, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        two.wait(LIMIT_S)
        return network(piece, feeds)

    instance = Instance(loose_colours)
    monkeypatch.setattr(Piece, "network", meeting)
    with ThreadPoolExecutor(8) as threads:
        ask = threads.submit
        assert {f.result(LIMIT_S) for f in [ask(label, instance, c) for c in ("lime", "blue")]} == {
            b"green",
            b"blue",
        }
        asked = instance._together._asked
        assert asked is not None
        asked.join(LIMIT_S)
        batcher = instance._together._joint
        assert batcher is not None
        free = threading.Event()

        def held(piece: Piece, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
            assert free.wait(LIMIT_S)
            return network(piece, feeds)

        monkeypatch.setattr(Piece, "network", held)
        batches: list[int] = []
        together_ = batcher._answer_together

        def counted(batch: list[Any]) -> bool:
            batches.append(len(batch))
            return together_(batch)

        monkeypatch.setattr(batcher, "_answer_together", counted)
        came = queued(batcher)
        waiting = [ask(label, instance, c) for c in ("red", "lime", "blue", "red", "blue")]
        for _ in range(4):
            assert came.acquire(timeout=LIMIT_S)
        free.set()
        found = [each.result(LIMIT_S) for each in waiting]
    assert found == [b"red", b"green", b"blue", b"red", b"blue"]
    assert batches == [4]


def test_a_function_with_batching_off_has_no_graph_for_several(loose_colours: Function) -> None:
    off = Instance(msgspec.structs.replace(loose_colours, batching="off"))
    assert label(off, "red") == b"red"
    (loaded,) = off._pieces.values()
    assert loaded.several is None
