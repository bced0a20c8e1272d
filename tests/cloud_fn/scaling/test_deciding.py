"""How many instances the requests of a moment need."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fn.functions.scaling import Context, FixedPolicy, Window, decide


def a_context(**changes: object) -> Context:
    usual: dict[str, object] = {"policy": FixedPolicy(), "concurrency": 4, "most": 8}
    return Context(**(usual | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "instances"),
    [
        ({}, 0),
        ({"waiting": 1}, 1),
        ({"waiting": 100}, 8),
        ({"least": 2}, 2),
        ({"instances": 1, "in_use": 4}, 1),
        ({"instances": 1, "in_use": 4, "waiting": 1, "oldest_wait_s": 0.1, "start_s": 0.2}, 1),
        ({"instances": 1, "in_use": 4, "waiting": 1, "oldest_wait_s": 0.2, "start_s": 0.2}, 2),
        ({"instances": 5, "in_use": 3}, 1),
        ({"instances": 9, "in_use": 36}, 8),
    ],
)
def test_an_instance_more_must_pay_for_its_start(
    changes: dict[str, object], instances: int
) -> None:
    assert decide(a_context(**changes)).instances == instances


def test_a_hundred_first_calls_ask_for_the_instances_they_fill_and_no_more() -> None:
    assert decide(a_context(waiting=100, concurrency=40, most=50)).instances == 3


def test_the_window_is_the_policys() -> None:
    policy = FixedPolicy(keep_alive_s=5)
    assert decide(a_context(policy=policy)).window == Window(0.0, 5)


@given(
    instances=st.integers(0, 20),
    in_use=st.integers(0, 50),
    waiting=st.integers(0, 50),
    oldest_wait_s=st.floats(0, 10),
    start_s=st.floats(0, 10),
    concurrency=st.integers(1, 8),
    least=st.integers(0, 5),
    more=st.integers(0, 10),
)
def test_every_decision_lies_within_its_bounds(
    *,
    instances: int,
    in_use: int,
    waiting: int,
    oldest_wait_s: float,
    start_s: float,
    concurrency: int,
    least: int,
    more: int,
) -> None:
    most = max(1, least + more)
    wanted = decide(
        Context(
            policy=FixedPolicy(),
            instances=instances,
            in_use=in_use,
            waiting=waiting,
            oldest_wait_s=oldest_wait_s,
            start_s=start_s,
            concurrency=concurrency,
            least=least,
            most=most,
        )
    ).instances
    assert least <= wanted <= most
    assert wanted <= max(least, -(-(in_use + waiting) // concurrency))
    if in_use + waiting > 0 and instances == 0:
        assert wanted >= 1
    if wanted > max(instances, least):
        assert instances == 0 or oldest_wait_s >= start_s
    if in_use <= instances * concurrency and instances <= most:
        assert wanted * concurrency >= in_use


@pytest.mark.parametrize("changes", [{"in_use": -1}, {"concurrency": 0}, {"least": 9}, {"most": 0}])
def test_a_context_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        a_context(**changes)
