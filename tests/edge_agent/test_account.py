"""Where a request's time went."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.account import Away, Course, account
from protos.messages import Milestones
from protos.timing import Timing

SECONDS = st.floats(min_value=0, max_value=100)


def test_a_request_that_stayed_here() -> None:
    """1 s in the queue, 2 s of work of which 0.5 for the steps, 0.25 s to write the answer."""
    course = Course(received_s=10.0, begun_s=11.0, pre_s=0.5, work_s=2.0, done_s=13.25)
    assert account(course) == (
        Timing(trigger_s=1.0, infer_s=2.0, response_s=0.25),
        Milestones(queue=1000.0, pre=500.0, edge=1500.0, total=3250.0),
    )


def test_a_request_that_the_cloud_finished() -> None:
    """Away for 1 s, 0.6 of it the cloud's own; the network's 0.4 s are shared 3 to 1 by bytes."""
    course = Course(
        received_s=0.0,
        begun_s=0.1,
        pre_s=0.05,
        work_s=0.2,
        done_s=1.5,
        away=Away(
            sent_s=0.4,
            received_s=1.4,
            sent_bytes=300,
            received_bytes=100,
            cloud=Timing(trigger_s=0.1, init_s=0.125, load_s=0.075, infer_s=0.25, response_s=0.05),
        ),
    )
    timing, milestones = account(course)
    assert timing.to_ms() == {
        "trigger": 200.0 + 300.0 + 100.0,
        "init": 125.0,
        "load": 75.0,
        "infer": 200.0 + 250.0,
        "response": 50.0 + 100.0 + 100.0,
    }
    assert milestones == Milestones(
        queue=100.0, pre=50.0, edge=150.0, net=400.0, cloud=600.0, total=1500.0
    )


@given(SECONDS, SECONDS, SECONDS, SECONDS, SECONDS, st.lists(SECONDS, min_size=5, max_size=5))
def test_the_five_terms_add_up_to_the_total_whatever_the_clouds_clock_says(
    queue_s: float, work_s: float, wait_s: float, away_s: float, after_s: float, cloud: list[float]
) -> None:
    sent_s = queue_s + work_s + wait_s
    names = ("trigger_s", "init_s", "load_s", "infer_s", "response_s")
    course = Course(
        received_s=0.0,
        begun_s=queue_s,
        pre_s=0.0,
        work_s=work_s,
        done_s=sent_s + away_s + after_s,
        away=Away(
            sent_s=sent_s,
            received_s=sent_s + away_s,
            sent_bytes=9,
            received_bytes=1,
            cloud=Timing(**dict(zip(names, cloud, strict=True))),
        ),
    )
    timing, milestones = account(course)
    assert timing.total_s == pytest.approx(course.done_s)
    assert milestones.total == pytest.approx(course.done_s * 1e3, abs=1e-3)
    assert min(timing.to_ms().values()) >= -1e-6
