"""What a function's settings mean to the pool."""

import msgspec
import pytest

from cloud_fn.config import Instance
from cloud_fn.functions import Function
from cloud_fn.functions.curve import Curve
from cloud_fn.functions.launch import CPU, CUDA
from cloud_fn.functions.limiting import Limiting, processors
from cloud_fn.functions.scaling import BackTested, BackTestedPolicy, Fixed, FixedPolicy, Learned
from cloud_fn.functions.settings import Batching, Settings, resolve
from cloud_fn.functions.spec import BatchedFiles, ReadyFiles
from cloud_fn.registry.manifest import StoredFile

FUNCTION = Function(model="m", version=1, model_path="/m", name="shop")


def a_limiting(settings: dict[str, Settings]) -> Limiting:
    kept = {name: resolve(each, Instance()) for name, each in settings.items()}
    return Limiting(lambda name: kept[name], open_files=512)


def test_a_functions_own_settings_hold_and_not_those_of_its_model() -> None:
    limiting = a_limiting(
        {"m": Settings(concurrency=1), "shop": Settings(concurrency=9, max_memory_bytes=1 << 28)}
    )
    limits = limiting(FUNCTION)
    assert limits.confinement is not None
    assert (limits.concurrency, limits.kind) == (9, CPU)
    assert (limits.confinement.max_memory_bytes, limits.confinement.open_files) == (1 << 28, 512)


FILE = StoredFile(name="g", digest="0" * 64, size_bytes=1)
BATCHED = BatchedFiles(
    graph=FILE, inputs=(), curve=Curve(points=((1, 1.0),)), prepacked=False, stamps=()
)


@pytest.mark.parametrize(
    ("settings", "batched", "places"),
    [
        (Settings(batching=Batching(max_size=16)), BATCHED, 16),
        (Settings(batching=Batching(max_size=2)), BATCHED, 4),
        (Settings(batching=Batching(max_size=16), concurrency=3), BATCHED, 3),
        (Settings(batching=Batching(max_size=16)), None, 4),
        (Settings(batching="auto"), BATCHED, 4),
        (Settings(batching="off"), BATCHED, 4),
    ],
)
def test_an_instance_is_given_as_many_requests_as_a_batch_may_have_unless_told_otherwise(
    settings: Settings, batched: BatchedFiles | None, places: int
) -> None:
    ready = ReadyFiles(
        target="t", folder="/", graph=FILE, document=FILE, stamps=(), batched=batched
    )
    function = msgspec.structs.replace(FUNCTION, ready=(ready,))
    assert a_limiting({"shop": settings})(function).concurrency == places


def test_while_nothing_changes_the_limits_are_the_same_object() -> None:
    limiting = a_limiting({"shop": Settings()})
    first = limiting(FUNCTION)
    assert limiting(FUNCTION) is first
    limiting.learn(Learned(price=1e-9), {})
    assert limiting(FUNCTION) is not first


def test_a_policy_is_the_one_that_was_asked_for_and_knows_what_an_instance_takes() -> None:
    fixed = a_limiting({"shop": Settings(scaling=Fixed(keep_alive_s=7.0))})
    assert fixed(FUNCTION).policy == FixedPolicy(keep_alive_s=7.0)
    tested = a_limiting({"shop": Settings(scaling=BackTested())})
    learned = Learned(price=1e-9)
    tested.learn(learned, {"shop": 12345})
    assert tested(FUNCTION).policy == BackTestedPolicy(learned=learned, size_bytes=12345)


def test_a_function_that_wants_a_gpu_is_placed_on_a_host_that_has_one() -> None:
    settings = Settings(providers=("cuda", "cpu"), gpu=0.5)
    assert a_limiting({"shop": settings})(FUNCTION).kind == CUDA


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (2, 2), (3, 3), (9, 4)])
def test_a_function_gets_as_many_processors_as_it_asks_for_or_all(
    count: int, expected: int
) -> None:
    chosen = processors("m:1", count, (0, 2, 4, 6))
    assert len(set(chosen)) == len(chosen) == expected
    assert set(chosen) <= {0, 2, 4, 6}


def test_functions_begin_at_different_processors() -> None:
    among = tuple(range(8))
    assert len({processors(f"m:{number}", 1, among) for number in range(50)}) > 4
