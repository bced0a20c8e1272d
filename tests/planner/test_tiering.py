"""More than two tiers, and which lossy crossings are judged."""

import msgspec
import pytest

from planner.errors import PlannerError
from planner.judging import Pairs, Verdicts
from planner.links import parse_link
from planner.listing import explain_front
from planner.model import Model
from planner.planning import plan
from planner.plans import Crossing, Plan
from planner.profiles import Profile
from planner.terminal import show
from planner.tiering import plan_tiers
from planner.traces import Trace
from testbed.fakes import with_times

RAW = ("raw",)


def test_two_tiers_take_what_the_plan_takes(measured: Profile, model: Model) -> None:
    for text in ("3G", "LTE", "WiFi"):
        link, device = parse_link(text), measured.scaled(0.02)
        found = plan_tiers(model, {"device": device, "cloud": measured}, [link], codecs=RAW)
        document = plan(model, device, measured, link, codecs=RAW)
        assert found.total_s == pytest.approx(document.certificate.cost, rel=1e-6)


def test_each_op_runs_where_it_is_quick_and_hops_are_paid_once(
    measured: Profile, model: Model
) -> None:
    """Steps on the device, convolutions in the shop's gateway, the classifier in the cloud."""
    device = with_times(measured, conv1=9.0, conv2=9.0, fc=9.0)
    gateway = with_times(measured, decode=9.0, conv1=0.01, conv2=0.01, fc=9.0)
    cloud = with_times(measured, decode=9.0, conv1=9.0, fc=0.01)
    profiles = {"device": device, "gateway": gateway, "cloud": cloud}
    found = plan_tiers(
        model, profiles, [parse_link("WiFi"), parse_link("LTE")], codecs=("raw", "raw+zstd")
    )
    kinds = {op.name: op.kind for op in model.graph.ops}
    where = {name: stage.tier for stage in found.stages for name in stage.ops}
    assert [where[n] for n in ("step:decode", "conv1", "fc")] == ["device", "gateway", "cloud"]
    assert sorted(where) == sorted(kinds)
    parts = [stage.seconds for stage in found.stages]
    parts += [hop.codec_s + hop.travel_s for hop in found.hops]
    assert sum(parts) == pytest.approx(found.total_s, rel=1e-6)
    assert found.total_s < min(found.alone_s.values())


def test_tiers_without_links_and_profiles_of_another_model_are_refused(
    measured: Profile, model: Model
) -> None:
    with pytest.raises(PlannerError, match="2 tiers need 1 links, got 0"):
        plan_tiers(model, {"device": measured, "cloud": measured}, [], codecs=RAW)
    other = msgspec.structs.replace(measured, digest="0" * 64)
    both = {"device": measured, "cloud": other}
    with pytest.raises(PlannerError, match="the profile of tier cloud is of"):
        plan_tiers(model, both, [parse_link("LTE")], codecs=RAW)


def crossing(*pairs: tuple[str, str]) -> tuple[Crossing, ...]:
    return tuple(Crossing(tensor=tensor, codec=codec, bytes=1) for tensor, codec in pairs)


def test_a_codec_is_judged_once_and_banned_with_and_without_compression() -> None:
    asked: list[Pairs] = []

    def judge(pairs: Pairs) -> float:
        asked.append(pairs)
        return 0.1

    verdicts = Verdicts(judge, 0.01, accepted=())
    plans = [crossing(("a", "int8+zstd")), crossing(("b", "raw"))]
    assert verdicts.bans(plans) == {("a", "int8"), ("a", "int8+zstd")}
    assert verdicts.bans(plans) == {("a", "int8"), ("a", "int8+zstd")}
    assert asked == [(("a", "int8+zstd"),)]
    assert verdicts.drop(plans[0]) == 0.1
    assert verdicts.drop(plans[1]) is None


def test_two_tensors_that_are_only_together_too_lossy_lose_the_costlier() -> None:
    drops = {"a": 0.004, "b": 0.006}

    def judge(pairs: Pairs) -> float:
        return sum(drops[tensor] for tensor, _ in pairs)

    verdicts = Verdicts(judge, 0.008, accepted=())
    assert verdicts.bans([crossing(("a", "fp16"), ("b", "fp16"))]) == {
        ("b", "fp16"),
        ("b", "fp16+zstd"),
    }


def test_what_cannot_be_told_is_banned_and_what_was_named_is_not_judged() -> None:
    verdicts = Verdicts(lambda _: None, 0.5, accepted=("fp16",))
    plans = [crossing(("a", "int8")), crossing(("a", "fp16"))]
    assert verdicts.bans(plans) == {("a", "int8"), ("a", "int8+zstd")}
    assert Verdicts(None, 0.0, accepted=()).bans(plans) == frozenset()


def test_a_traces_slow_moments_are_its_quantiles() -> None:
    """Ten packets in the first second, none in the second, twenty in the third."""
    times = [*range(0, 1000, 100), *range(2000, 3000, 50), 3000]
    trace = Trace(tuple(times))
    assert trace.windows_bps() == (15_000.0, 0.0, 30_000.0)
    assert trace.quantile_bps(0.99) == 30_000.0
    assert trace.quantile_bps(0.5) == 15_000.0
    assert trace.quantile_bps(0.01) == 1500.0  # at least one packet, so that nothing is infinite


def test_a_tensors_name_is_never_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    points = [
        Plan(
            id="plan-1",
            crossing=crossing(("[/red]a[0]", "raw")),
            ops_on_device=1,
            ops=2,
            device_s=0.1,
            encode_s=0.0,
            decode_s=0.0,
            cloud_s=0.1,
            download_bytes=1,
        )
    ]
    show(explain_front("latency,cost", points))
    assert "[/red]a[0] (raw)" in capsys.readouterr().out
