"""Long jobs in steps: killed anywhere, they go on, and no outcome is lost or doubled."""

import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from cloud_fn.errors import FunctionFailed, InstanceLost, TooLarge
from cloud_fn.functions import Answer, Function
from cloud_fn.functions.checkpoint import Checkpoint, CheckpointError
from cloud_fn.functions.instance import Instance
from cloud_fn.functions.steps import Job, Listed, Loop, run_steps
from protos import wire
from protos.invocation import Reply, Request, Tensor
from protos.tensors import Buffer

START = np.array([[1.0, -2.0]], np.float32)


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Rotating:
    """Turns ``x`` by ``turn`` radians about, in an instance of this process.

    Its caller is killed once the calls in ``kills`` were answered, and nobody hears of it; the
    instance is lost at those in ``lost``. All calls count, from 1.
    """

    instance: Instance
    kills: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    calls: int = 0

    def __call__(self, body: bytes) -> Answer:
        self.calls += 1
        if self.calls in self.lost:
            raise InstanceLost("the instance ended")
        executed = self.instance.execute(body)
        if self.calls in self.kills:
            raise Killed
        return Answer(
            body=executed.body, instance="i", handed_s=0.0, init_s=0.0, load_s=0.0, infer_s=0.0
        )


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """``y = x @ rotation + nudge``: what goes in has the shape of what comes out."""
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2])
        for name in ("x", "nudge", "y")
    }
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "turn"], ["turned"]),
            helper.make_node("Add", ["turned", "nudge"], ["y"]),
        ],
        "rotate",
        [values["x"], values["nudge"]],
        [values["y"]],
        [numpy_helper.from_array(turn, "turn")],
    )
    path = tmp_path_factory.mktemp("rotate") / "rotate.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return Instance(Function(model="rotate", version=1, model_path=str(path)))


def a_request(x: np.ndarray = START, key: str | None = None) -> bytes:
    nudge = np.array([[0.1, 0.0]], np.float32)
    inputs = (Tensor.of("x", x), Tensor.of("nudge", nudge))
    return wire.encode_request(Request(model="rotate", id="7", inputs=inputs, key=key))


def a_loop(count: int = 8) -> Loop:
    return Loop(first=a_request(), fed={"y": "x"}, count=count)


def a_list(count: int = 6) -> Listed:
    return Listed(tuple(a_request(START * n) for n in range(count)))


def a_checkpoint(folder: Path, job: Job, keep: int | None = None) -> Checkpoint:
    return Checkpoint(folder, job.digest, keep=keep)


def straight(instance: Instance, job: Job) -> list[bytes]:
    """Every reply of a job that nothing disturbs, told by the pure part alone."""
    replies: list[bytes] = []
    while (request := job.request(len(replies), replies[-1] if replies else None)) is not None:
        replies.append(bytes(instance.execute(request).body))
    return replies


def until_done(ask: Callable[[bytes], Answer], job: Job, checkpoint: Checkpoint) -> list[int]:
    """Run the job again each time that it is killed; gives the steps that were told of."""
    told: list[int] = []
    while True:
        try:
            for step, _ in run_steps(ask, job, checkpoint):
                told.append(step)
        except Killed:
            continue
        return told


@settings(max_examples=25, deadline=None)
@given(
    st.sets(st.integers(1, 14)),
    st.sets(st.integers(1, 14), max_size=2),
    st.sampled_from([a_loop(), a_list()]),
)
def test_a_job_killed_anywhere_goes_on_and_has_each_outcome_once(
    instance: Instance,
    tmp_path_factory: pytest.TempPathFactory,
    kills: set[int],
    lost: set[int],
    job: Job,
) -> None:
    folder = tmp_path_factory.mktemp("job")
    ask = Rotating(instance, kills=kills - lost, lost=lost)
    wanted = straight(instance, job)
    told = until_done(ask, job, a_checkpoint(folder, job))
    assert told == list(range(len(wanted)))
    checkpoint = a_checkpoint(folder, job)
    assert [checkpoint.reply(step) for step in range(len(wanted))] == wanted
    assert checkpoint.done() == (len(wanted), wanted[-1])
    assert ask.calls <= len(wanted) + len(kills) + len(lost)


def test_a_step_that_was_recorded_before_the_kill_is_not_run_again(
    instance: Instance, tmp_path: Path
) -> None:
    """Killed between the checkpoint and whoever is told."""
    job, ask = a_loop(), Rotating(instance)
    for step, _ in run_steps(ask, job, a_checkpoint(tmp_path, job)):
        if step == 3:
            break
    rest = [step for step, _ in run_steps(ask, job, a_checkpoint(tmp_path, job))]
    assert rest == [4, 5, 6, 7]
    assert ask.calls == 8


def test_a_loop_feeds_what_was_answered_and_each_step_has_a_key_of_its_own(
    instance: Instance,
) -> None:
    job = Loop(first=a_request(key="k"), fed={"y": "x"}, count=3)
    first = instance.execute(job.request(0, None) or b"").body
    second = wire.decode_request(job.request(1, first) or b"")
    (y,) = wire.decode_reply(first).outputs
    assert {tensor.name: tensor.data for tensor in second.inputs}["x"] == y.data
    assert (second.key, second.id, len(second.inputs)) == ("k/1", "7", 2)
    assert job.request(3, first) is None


def test_a_loop_may_end_by_what_was_answered(instance: Instance, tmp_path: Path) -> None:
    def turned(reply: Buffer) -> bool:
        return bool(wire.decode_reply(reply).outputs[0].array()[0, 0] < 0)

    job = Loop(first=a_request(), fed={"y": "x"}, count=100, until=turned)
    replies = [
        reply for _, reply in run_steps(Rotating(instance), job, a_checkpoint(tmp_path, job))
    ]
    assert 1 < len(replies) < 100
    assert [turned(reply) for reply in replies] == [False] * (len(replies) - 1) + [True]
    assert list(run_steps(Rotating(instance), job, a_checkpoint(tmp_path, job))) == []


@pytest.mark.parametrize("keep", [None, 2])
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], lambda data: data[:10], lambda _: b"", lambda d: d[:-1] + b"\xff"],
)
def test_a_damaged_step_is_run_again(
    instance: Instance, tmp_path: Path, keep: int | None, damage: Callable[[bytes], bytes]
) -> None:
    job = a_loop()
    wanted = straight(instance, job)
    list(run_steps(Rotating(instance), job, a_checkpoint(tmp_path, job, keep)))
    last = tmp_path / "step-00000007"
    last.write_bytes(damage(last.read_bytes()))
    again = list(run_steps(Rotating(instance), job, a_checkpoint(tmp_path, job, keep)))
    assert again == [(7, wanted[7])]


def test_after_a_gap_all_is_run_again(instance: Instance, tmp_path: Path) -> None:
    job = a_list()
    list(run_steps(Rotating(instance), job, a_checkpoint(tmp_path, job)))
    (tmp_path / "step-00000002").unlink()
    again = [step for step, _ in run_steps(Rotating(instance), job, a_checkpoint(tmp_path, job))]
    assert again == [2, 3, 4, 5]


def test_a_loop_keeps_only_its_last_replies_and_a_killed_writers_draft_goes(
    instance: Instance, tmp_path: Path
) -> None:
    job = a_loop()
    (tmp_path / ".step-00000003").write_bytes(b"half")
    ask = Rotating(instance, kills={4})
    until_done(ask, job, a_checkpoint(tmp_path, job, keep=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "lock",
        "step-00000006",
        "step-00000007",
    ]


def test_another_jobs_checkpoint_and_one_in_use_are_refused(
    instance: Instance, tmp_path: Path
) -> None:
    job, other = a_loop(), a_loop(9)
    running = run_steps(Rotating(instance), job, a_checkpoint(tmp_path, job))
    next(running)
    with pytest.raises(CheckpointError, match="is in use: the job runs already"):
        next(run_steps(Rotating(instance), job, a_checkpoint(tmp_path, job)))
    assert len(list(running)) == 7
    with pytest.raises(CheckpointError, match="is another job's"):
        next(run_steps(Rotating(instance), other, a_checkpoint(tmp_path, other)))


def test_what_is_kept_is_bounded_and_what_was_kept_stays(
    instance: Instance, tmp_path: Path
) -> None:
    job = a_list()
    size = len(straight(instance, job)[0])
    small = Checkpoint(tmp_path / "a", job.digest, keep=None, max_step_bytes=size - 1)
    with pytest.raises(TooLarge, match=r"^step 0 has"):
        next(run_steps(Rotating(instance), job, small))
    few = Checkpoint(tmp_path / "b", job.digest, keep=None, max_bytes=3 * size)
    with pytest.raises(TooLarge, match=r"^step 3 has"):
        list(run_steps(Rotating(instance), job, few))
    assert a_checkpoint(tmp_path / "b", job).done()[0] == 3


def test_a_full_disk_stops_the_job_with_what_it_has(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, synced = a_loop(), iter([None] * 4)  # the file and the folder of two steps

    def full(_: int) -> None:
        if next(synced, "full") == "full":
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(CheckpointError, match=r"step 2 cannot be written .*\(No space left"):
            list(run_steps(Rotating(instance), job, a_checkpoint(tmp_path, job)))
    rest = [step for step, _ in run_steps(Rotating(instance), job, a_checkpoint(tmp_path, job))]
    assert rest == [2, 3, 4, 5, 6, 7]


def test_a_step_that_fails_is_named_and_the_job_can_be_run_again(
    instance: Instance, tmp_path: Path
) -> None:
    job, broken = a_loop(), iter([False, False, True])

    def ask(body: bytes) -> Answer:
        if next(broken, False):
            raise FunctionFailed("it broke")
        return Rotating(instance)(body)

    with pytest.raises(FunctionFailed, match=r"^step 2: it broke$"):
        list(run_steps(ask, job, a_checkpoint(tmp_path, job)))
    rest = [step for step, _ in run_steps(ask, job, a_checkpoint(tmp_path, job))]
    assert rest == [2, 3, 4, 5, 6, 7]


def test_a_job_that_is_asked_to_stop_stops_between_steps(
    instance: Instance, tmp_path: Path
) -> None:
    job, stop = a_loop(), threading.Event()
    told = []
    for step, _ in run_steps(Rotating(instance), job, a_checkpoint(tmp_path, job), stop=stop):
        told.append(step)
        stop.set()
    assert told == [0]
    assert a_checkpoint(tmp_path, job).done()[0] == 1


def test_jobs_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="a job has 1 to 1000000 steps, got 0"):
        Listed(())
    with pytest.raises(ValueError, match="has no input 'z' to be replaced"):
        Loop(first=a_request(), fed={"y": "z"}, count=2)
    nothing = wire.encode_reply(Reply(model="rotate"))
    with pytest.raises(FunctionFailed, match="step 1 lacks 'y', which step 0 owed"):
        a_loop().request(1, nothing)


def test_jobs_differ_by_all_that_their_steps_depend_on() -> None:
    loops = [a_loop(), a_loop(9), Loop(first=a_request(START * 2), fed={"y": "x"}, count=8)]
    loops.append(Loop(first=a_request(), fed={"y": "nudge"}, count=8))
    jobs: list[Job] = [*loops, a_list(), a_list(5)]
    digests = [job.digest for job in jobs]
    assert len(set(digests)) == len(digests)
    assert a_loop().digest == a_loop().digest
