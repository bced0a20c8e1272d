"""Profiles, plans and their documents."""

from pathlib import Path

import msgspec
import pytest

from planner.errors import NoFeasiblePlan, PlannerError
from planner.limits import Limits
from planner.links import parse_link
from planner.model import Model
from planner.planning import plan
from planner.plans import PlanDocument, read_plan, write_plan
from planner.profiles import Profile, read_profile, write_profile
from planner.steps import made_up_image
from testbed.fakes import with_times


def ms(document: PlanDocument, name: str) -> float:
    link = document.link
    return document.plan(name).total_s(link.up_bps, link.rtt_s, link.down_bps) * 1e3


def test_a_profile_shares_out_the_whole_among_the_ops(measured: Profile, model: Model) -> None:
    assert [op.name for op in measured.ops] == [op.name for op in model.graph.ops]
    assert sum(op.seconds for op in measured.ops) == pytest.approx(measured.whole_s)
    sizes = {size.name: size.raw_bytes for size in measured.tensors}
    assert sizes["crop"] == 32 * 32 * 3
    assert sizes["x"] == 4 * 32 * 32 * 3
    assert sizes["bytes"] == len(made_up_image(64, 48)) + 4  # BYTES carry their length


def test_a_profile_knows_the_weights_of_each_op(measured: Profile) -> None:
    assert {op.name: op.weight_bytes for op in measured.ops if op.weight_bytes} == {
        "conv1": 4 * 8 * 3 * 3 * 3,
        "conv2": 4 * 16 * 8 * 3 * 3,
        "fc": 4 * 16 * 3,
    }


def test_a_scaled_profile_is_slower_everywhere(measured: Profile) -> None:
    tenth = measured.scaled(0.1)
    assert tenth.whole_s == pytest.approx(measured.whole_s * 10)
    assert tenth.ops[3].seconds == pytest.approx(measured.ops[3].seconds * 10)
    with pytest.raises(PlannerError, match="factor above 0"):
        measured.scaled(0.0)


def test_the_plan_is_the_narrow_place_when_that_is_best(measured: Profile, model: Model) -> None:
    """A slow tail, a slow link and a narrow tensor between: only the split is right."""
    device = with_times(measured, conv1=0.001, fc=1.0)
    cloud = with_times(measured, fc=0.001)
    document = plan(model, device, cloud, parse_link("1Mbps,10ms"), codecs=("raw",))
    chosen = document.plan(document.choice)
    assert [c.tensor for c in chosen.crossing] in (["p"], ["f"])
    assert chosen.upload_bytes == 16 * 4
    assert chosen.kind == "split"
    assert document.certificate.method == "minimum cut"
    assert document.certificate.cost == pytest.approx(
        chosen.total_s(document.link.up_bps, 0.010), abs=1e-6
    )
    assert document.certificate.cost == pytest.approx(document.certificate.bound, abs=1e-5)


def test_no_split_when_the_device_is_fast_enough(measured: Profile, model: Model) -> None:
    document = plan(model, measured, measured, parse_link("3G"))
    assert document.choice == "device-only"
    assert document.reason.startswith("do not split: the device alone needs")
    assert {*document.baselines} == {
        "device-only",
        "cloud-fp32",
        "cloud-uint8",
        "cloud-jpeg",
        "cloud-jpeg90",
    }


def test_the_raw_message_goes_up_when_the_device_is_hopeless(
    measured: Profile, model: Model
) -> None:
    device = with_times(measured, conv1=5.0, decode=5.0)
    cloud = with_times(measured)
    document = plan(model, device, cloud, parse_link("LTE"))
    assert document.choice == "cloud-jpeg"
    assert document.plan("cloud-jpeg").kind == "cloud"
    kept = plan(model, device, cloud, parse_link("LTE"), raw_input_may_leave=False)
    assert [c.tensor for c in kept.plan(kept.choice).crossing] != ["bytes"]
    assert kept.plan("cloud-jpeg").refused == "the raw input may not leave the device"


def test_a_lossy_codec_is_shown_and_not_chosen_unless_it_is_allowed(
    measured: Profile, model: Model
) -> None:
    device = with_times(measured, conv1=5.0)
    cloud = with_times(measured)
    link = parse_link("LTE")
    strict = plan(model, device, cloud, link, raw_input_may_leave=False)
    assert strict.plan("cloud-jpeg90").refused == "jpeg:90 may change the answer"
    assert strict.choice != "cloud-jpeg90"


def test_the_table_gives_the_choice_at_the_links_own_bandwidth(
    measured: Profile, model: Model
) -> None:
    for text in ("3G", "LTE", "WiFi", "200Mbps,1ms"):
        document = plan(model, measured.scaled(0.02), measured, parse_link(text))
        assert ms(document, document.at(document.link.up_bps).id) == pytest.approx(
            ms(document, document.choice), rel=1e-6
        )
        ends = [range_.to_bps for range_ in document.table]
        assert ends == sorted(ends)


def test_a_limit_that_nothing_meets_says_what_would(measured: Profile, model: Model) -> None:
    device = with_times(measured, conv1=1.0)
    with pytest.raises(NoFeasiblePlan, match=r"no plan keeps latency at most 1 ms: .* ms would do"):
        plan(model, device, device, parse_link("3G"), limits=Limits(latency_s=0.001))


def test_documents_round_trip_exactly(measured: Profile, model: Model, tmp_path: Path) -> None:
    document = plan(model, measured, measured, parse_link("LTE"))
    write_plan(document, tmp_path / "plan.json")
    write_profile(measured, tmp_path / "profile.json")
    assert read_plan(tmp_path / "plan.json") == document
    assert read_profile(tmp_path / "profile.json") == measured


@pytest.mark.parametrize(
    ("find", "put", "says"),
    [
        ('"whole_s": ', '"whole_s": -', "whole_s"),
        ('"runs": 5', '"runs": "five"', "runs"),
        ('"model":', '"modell":', "modell"),
        (",", "", "JSON"),
    ],
)
def test_a_malformed_profile_is_refused_with_the_field(
    measured: Profile, tmp_path: Path, find: str, put: str, says: str
) -> None:
    path = tmp_path / "profile.json"
    write_profile(measured, path)
    path.write_text(path.read_text().replace(find, put, 1))
    with pytest.raises(PlannerError, match=says):
        read_profile(path)


def test_a_plan_that_names_a_missing_plan_is_refused(
    measured: Profile, model: Model, tmp_path: Path
) -> None:
    document = plan(model, measured, measured, parse_link("LTE"))
    write_plan(msgspec.structs.replace(document, choice="nowhere"), tmp_path / "plan.json")
    with pytest.raises(PlannerError, match="there is no plan 'nowhere'"):
        read_plan(tmp_path / "plan.json")


def test_a_profile_of_another_model_is_refused(measured: Profile, model: Model) -> None:
    other = msgspec.structs.replace(measured, digest="0" * 64)
    with pytest.raises(PlannerError, match="profile this model again"):
        plan(model, other, measured, parse_link("LTE"))
