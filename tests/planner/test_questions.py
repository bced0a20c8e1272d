"""Objectives, limits, pins, the cloud's load and judged codecs change the answer as they should."""

import math
from pathlib import Path

import pytest

from planner.energy import RADIOS
from planner.errors import NoFeasiblePlan, PlannerError
from planner.judging import Pairs
from planner.limits import Limits
from planner.links import parse_link
from planner.loads import Load
from planner.model import Model
from planner.objectives import Name
from planner.planning import Power, plan
from planner.plans import Plan, PlanDocument, read_plan, write_plan
from planner.profiles import Profile
from planner.tariffs import Tariff, parse_tariff
from testbed.fakes import with_times

LINK = parse_link("1Mbps,10ms")


@pytest.fixture(scope="module")
def device(measured: Profile) -> Profile:
    """Quick convolution, slow classifier: the split at the pooled features is best for latency."""
    return with_times(measured, conv1=0.001, fc=1.0)


@pytest.fixture(scope="module")
def cloud(measured: Profile) -> Profile:
    return with_times(measured, fc=0.001)


def chosen(document: PlanDocument) -> Plan:
    return document.plan(document.choice)


def lossy(crossing: Pairs) -> list[str]:
    return [codec for _, codec in crossing]


def test_without_limits_the_split_is_best(device: Profile, cloud: Profile, model: Model) -> None:
    assert chosen(plan(model, device, cloud, LINK)).kind == "split"


def test_energy_counts_the_radios_tail(device: Profile, cloud: Profile, model: Model) -> None:
    """A second of work at 5 W is less than LTE's tail alone (12.3 J)."""
    lte = parse_link("LTE")
    power = Power(busy_w=5.0)
    document = plan(model, device, cloud, lte, objective="energy", power=power)
    assert document.choice == "device-only"
    assert chosen(document).energy_j == pytest.approx(5.0 * chosen(document).device_s)
    split = plan(model, device, cloud, lte, power=power)
    assert chosen(split).kind == "split"
    energy = chosen(split).energy_j
    assert energy is not None
    assert energy > RADIOS["LTE"].tail_j == pytest.approx(12.27, abs=0.01)
    hungry = Power(busy_w=50.0)
    document = plan(model, device, cloud, lte, objective="energy", power=hungry)
    assert chosen(document).kind != "edge"
    assert document.certificate.unit == "J"
    assert document.certificate.cost == pytest.approx(chosen(document).energy_j)


def test_energy_without_the_devices_power_is_refused(
    device: Profile, cloud: Profile, model: Model
) -> None:
    with pytest.raises(PlannerError, match="--device-power"):
        plan(model, device, cloud, LINK, objective="energy")
    with pytest.raises(PlannerError, match="it has no radio that we know"):
        plan(model, device, cloud, LINK, objective="energy", power=Power(busy_w=1.0))


def test_money_is_least_on_the_device_unless_it_is_too_slow(
    device: Profile, cloud: Profile, model: Model
) -> None:
    tariff = Tariff(usd_per_s=1.0, usd_per_request=0.5)
    free = plan(model, device, cloud, LINK, objective="cost", tariff=tariff)
    assert free.choice == "device-only"
    assert chosen(free).usd == 0.0
    limits = Limits(latency_s=0.5)
    paid = plan(model, device, cloud, LINK, objective="cost", tariff=tariff, limits=limits)
    assert chosen(paid).kind != "edge"
    assert paid.plan("device-only").refused.startswith("latency would be 1")
    assert paid.limits == ("latency at most 500 ms",)
    assert chosen(paid).usd == pytest.approx(0.5 + chosen(paid).cloud_s + chosen(paid).decode_s)


def test_a_device_without_room_sends_more_up(device: Profile, cloud: Profile, model: Model) -> None:
    free = chosen(plan(model, device, cloud, LINK))
    limits = Limits(device_bytes=free.device_bytes - 1)
    document = plan(model, device, cloud, LINK, limits=limits)
    assert document.certificate.method == "integer programme"
    assert chosen(document).device_bytes < free.device_bytes
    assert document.plan(document.choice) != free


def test_an_impossible_pair_of_limits_names_one_and_what_would_do(
    device: Profile, cloud: Profile, model: Model
) -> None:
    raw = plan(model, device, cloud, LINK, in_cloud=["fc"])
    assert chosen(raw).kind == "split"
    with pytest.raises(NoFeasiblePlan, match=r"no plan keeps .* would do"):
        plan(model, device, cloud, LINK, limits=Limits(latency_s=0.02, usd=0.0))


def test_pins_that_exclude_each_other_leave_nothing(
    device: Profile, cloud: Profile, model: Model
) -> None:
    with pytest.raises(NoFeasiblePlan, match="exclude each other"):
        plan(model, device, cloud, LINK, on_device=["fc"], in_cloud=["conv1"])
    with pytest.raises(PlannerError, match="there is no op 'nothing' to pin"):
        plan(model, device, cloud, LINK, on_device=["nothing"])


def test_a_busy_cloud_makes_the_device_worth_waiting_for(
    device: Profile, cloud: Profile, model: Model
) -> None:
    busy = Load(queue_s=0.6, cold_chance=0.5, cold_s=1.0)
    assert busy.wait_s == pytest.approx(1.1)
    document = plan(model, device, cloud, LINK, load=busy)
    assert document.choice == "device-only"
    split = plan(model, device, cloud, LINK, load=Load(queue_s=0.1))
    assert chosen(split).wait_s == pytest.approx(0.1)
    assert split.certificate.cost == pytest.approx(
        chosen(split).total_s(LINK.up_bps, LINK.rtt_s, LINK.down_bps)
    )


def test_a_latency_for_most_requests_is_held_at_the_traces_slow_moments(
    device: Profile, cloud: Profile, model: Model, tmp_path: Path
) -> None:
    """A trace that is slow for half of the time keeps a limit on average and not for 95 %."""
    fast = [ms for ms in range(1000) for _ in range(10)]
    slow = [1500, 2000]
    trace = tmp_path / "drive.up"
    trace.write_text("".join(f"{ms}\n" for ms in fast + slow))
    link = parse_link(f"{trace},10ms")
    loose = plan(model, device, cloud, link, limits=Limits(latency_s=0.3, quantile=0.5))
    assert chosen(loose).kind != "edge"
    strict = Limits(latency_s=0.013, quantile=0.95)
    with pytest.raises(NoFeasiblePlan, match=r"latency for 0.95 of the requests at most 13 ms"):
        plan(model, device, cloud, link, limits=strict)


def test_a_judged_codec_is_used_within_the_budget_and_banned_beyond(
    device: Profile, cloud: Profile, model: Model
) -> None:
    asked: list[Pairs] = []

    def judge(crossing: Pairs) -> float:
        asked.append(crossing)
        return 0.001 if lossy(crossing) == ["fp16"] else 0.2

    slow = parse_link("0.01Mbps,10ms")
    strict = plan(model, device, cloud, slow, judge=judge, accuracy_drop=0.0)
    assert chosen(strict).crossing[0].codec in ("raw", "raw+zstd")
    assert chosen(strict).drop is None
    loose = plan(model, device, cloud, slow, judge=judge, accuracy_drop=0.01)
    assert chosen(loose).crossing[0].codec == "fp16"
    assert chosen(loose).drop == 0.001
    assert loose.plan("cloud-jpeg90").refused == "jpeg:90 changes too many answers"
    assert loose.plan("cloud-jpeg90").drop == 0.2
    assert all(len(crossing) == 1 for crossing in asked)
    with pytest.raises(PlannerError, match="accuracy drop is 2"):
        plan(model, device, cloud, slow, judge=judge, accuracy_drop=2)


def test_frames_in_flight_follow_several_plans_where_that_passes_more(
    measured: Profile, model: Model
) -> None:
    """Device and cloud alone pass 10 frames/s each, so together they pass 20."""
    device = with_times(measured, conv1=0.1)
    cloud = with_times(measured, conv1=0.1)
    link = parse_link("100Mbps,1ms")
    document = plan(model, device, cloud, link, objective="throughput")
    mixture = document.mixture
    assert mixture is not None
    assert mixture.fps == pytest.approx(20, rel=0.05)
    assert mixture.most_fps == pytest.approx(mixture.fps, rel=1e-4)
    assert sum(share.share for share in mixture.shares) == pytest.approx(1.0)
    best = max(p.fps or 0 for p in document.plans if not p.refused)
    assert chosen(document).fps == pytest.approx(best)
    assert best == pytest.approx(10, rel=0.05)
    assert "frames in flight" in document.reason


@pytest.mark.parametrize("objective", ["latency", "energy", "cost", "throughput"])
def test_documents_of_every_objective_round_trip_and_their_table_holds_the_choice(
    device: Profile, cloud: Profile, model: Model, tmp_path: Path, objective: Name
) -> None:
    path = tmp_path / "plan.json"
    link, power = parse_link("LTE"), Power(busy_w=2.0)
    document = plan(model, device, cloud, link, objective=objective, power=power)
    write_plan(document, path)
    assert read_plan(path) == document
    at = document.at(document.link.up_bps)
    if objective == "throughput":
        assert at.fps == pytest.approx(chosen(document).fps)
    else:
        assert at.id == document.choice
    assert document.gain >= 1 - 1e-9


def test_a_tariff_is_read_by_its_units() -> None:
    assert parse_tariff("0.00002/s,0.40/M,0.10/GB") == Tariff(
        usd_per_s=0.00002, usd_per_request=0.40 / 1e6, usd_per_byte=0.10 / 1e9
    )
    for text in ("", "1", "-1/s", "nan/s", "1/h", "1/s;2/M"):
        with pytest.raises(PlannerError, match="write dollars as"):
            parse_tariff(text)


def test_limits_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(PlannerError, match="the limit usd is nan"):
        Limits(usd=math.nan)
    with pytest.raises(PlannerError, match="quantile is 1"):
        Limits(quantile=1.0)
