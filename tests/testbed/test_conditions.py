"""What a link is like, and how commands change it."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import LinkError
from planner.links import NAMED, parse_link
from planner.traces import Trace
from testbed.conditions import Conditions
from testbed.control import Change, Command, changed
from testbed.errors import TestbedError

LTE = Conditions(up=731_250.0, down=731_250.0, delay_s=0.025)


def test_half_of_the_round_trip_is_paid_each_way() -> None:
    assert Conditions.of(NAMED["LTE"]) == LTE


def test_a_trace_link_keeps_its_opportunities(tmp_path: Path) -> None:
    (tmp_path / "x.up").write_text("1\n2\n")
    (tmp_path / "x.down").write_text("3\n")
    assert Conditions.of(parse_link(f"{tmp_path / 'x.up'},80ms,3ms")) == Conditions(
        up=Trace((1, 2)), down=Trace((3,)), delay_s=0.04, jitter_s=0.003
    )


@pytest.mark.parametrize("bps", [0.0, -1.0, math.inf, math.nan])
def test_a_bandwidth_that_is_none_is_refused(bps: float) -> None:
    with pytest.raises(ValueError, match="a bandwidth must be above 0 and finite"):
        replace(LTE, up=bps)


@pytest.mark.parametrize(
    ("command", "after"),
    [
        (Command(), LTE),
        (Command(outage=True), replace(LTE, outage=True)),
        (
            Command(set=Change(link="3g")),
            Conditions(up=137_500.0, down=137_500.0, delay_s=0.05),
        ),
        (
            Command(set=Change(up_bps=1e6, rtt_s=0.2, jitter_s=0.001), outage=True),
            Conditions(up=1e6, down=731_250.0, delay_s=0.1, jitter_s=0.001, outage=True),
        ),
        (
            Command(set=Change(link="WiFi", down_bps=5e5)),
            Conditions(up=2_360_000.0, down=5e5, delay_s=0.01),
        ),
    ],
)
def test_a_command_changes_what_it_names(command: Command, after: Conditions) -> None:
    assert changed(LTE, command) == after


def test_a_new_link_does_not_end_an_outage() -> None:
    before = replace(LTE, outage=True)
    assert changed(before, Command(set=Change(link="WiFi"))).outage


def test_a_command_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(TestbedError, match="the link cannot be set so: a bandwidth must be above"):
        changed(LTE, Command(set=Change(up_bps=0.0)))
    with pytest.raises(LinkError, match="'5G' is no link"):
        changed(LTE, Command(set=Change(link="5G")))


figures = st.none() | st.floats()


@given(up=figures, down=figures, rtt=figures, jitter=figures, link=st.none() | st.text(max_size=9))
def test_any_change_gives_conditions_that_can_be_used_or_an_error(
    up: float | None,
    down: float | None,
    rtt: float | None,
    jitter: float | None,
    link: str | None,
) -> None:
    change = Change(link=link, up_bps=up, down_bps=down, rtt_s=rtt, jitter_s=jitter)
    try:
        after = changed(LTE, Command(set=change))
    except (TestbedError, LinkError):
        return
    assert isinstance(after.up, float)
    assert 0 < after.up < math.inf
    assert 0 <= after.delay_s < math.inf
