"""How often a request goes to another instance, and after what."""

from hypothesis import given
from hypothesis import strategies as st

from cloud_fn.functions.elsewhere import Tries

events = st.lists(st.sampled_from(["gone", "gone with its host", "lost"]))


def played(happened: list[str]) -> int:
    """How many attempts were made of those that could be."""
    tries = Tries()
    for number, event in enumerate(happened, 1):
        if event == "lost":
            later = tries.after_lost()
        else:
            later = tries.after_gone(blameless=event == "gone with its host")
        if later is None:
            return number
        tries = later
    return len(happened)


@given(events)
def test_a_request_is_run_at_most_twice_and_met_by_two_dead_instances_at_most(
    happened: list[str],
) -> None:
    tried = happened[: played(happened)]
    assert tried.count("lost") <= 2
    assert tried.count("gone") <= 2
    if len(tried) < len(happened):
        assert tried.count("lost") == 2 or tried.count("gone") == 2


def test_instances_that_went_with_their_host_are_passed_by() -> None:
    assert played(["gone with its host"] * 50) == 50


def test_a_request_that_may_be_what_costs_the_hosts_is_not_run_a_third_time() -> None:
    assert played(["lost", "lost", "lost"]) == 2
