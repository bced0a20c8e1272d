"""The desired document as it is read, and the last good one as it is kept."""

from pathlib import Path

import pytest

from edge_agent import desired
from edge_agent.desired import DesiredPin, DesiredPlans, LastGood, Unreadable
from protos.messages import ModelRef

HELD = {"m": ModelRef(name="m", version="3", digest="ab" * 32)}


def test_a_document_names_a_plan_for_each_model() -> None:
    document = desired.read(b'{"version": 4, "models": {"m": {"plan": "plan-1"}, "n": {}}}')
    assert document == DesiredPlans(
        version=4, models={"m": DesiredPin(plan="plan-1"), "n": DesiredPin(plan="auto")}
    )
    assert desired.pins_of(document) == {"m": "plan-1", "n": "auto"}


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"hello", "not a JSON document"),
        (b"{}", "version"),
        (b'{"version": 0}', "version"),
        (b'{"version": 1, "colour": 2}', "unknown field `colour`"),
        (b'{"version": 1, "models": {"m": {"plan": 7}}}', "plan"),
        (b"[" * 100_000, "desired document"),
    ],
)
def test_what_cannot_be_read_is_a_fault(payload: bytes, sentence: str) -> None:
    """The agent may not claim to have applied a field that it does not know."""
    with pytest.raises(Unreadable) as caught:
        desired.read(payload)
    assert caught.value.fault.code == "malformed"
    assert sentence in caught.value.fault.msg


def test_another_version_or_digest_than_the_one_here_is_a_fault() -> None:
    pins = {"m": DesiredPin(version="4", digest="sha256:" + "cd" * 32), "gone": DesiredPin()}
    faults = desired.mismatches(DesiredPlans(version=1, models=pins), HELD)
    assert [(fault.path, fault.code) for fault in faults] == [
        ("models.m.version", "version_mismatch"),
        ("models.m.digest", "digest_mismatch"),
    ]


def test_the_version_and_digest_that_are_here_are_none() -> None:
    pins = {"m": DesiredPin(version="3", digest="sha256:" + "ab" * 32)}
    assert desired.mismatches(DesiredPlans(version=1, models=pins), HELD) == ()


def test_the_last_good_document_survives(tmp_path: Path) -> None:
    last = LastGood(tmp_path / "desired.json")
    assert last.load() is None
    last.save(7, {"m": "plan-1"})
    assert last.load() == DesiredPlans(version=7, models={"m": DesiredPin(plan="plan-1")})


def test_a_corrupt_one_is_moved_aside_and_does_not_stop_every_start(tmp_path: Path) -> None:
    path = tmp_path / "desired.json"
    path.write_bytes(b"\x00")
    assert LastGood(path).load() is None
    assert not path.exists()
    assert (tmp_path / "desired.corrupt").read_bytes() == b"\x00"


def test_a_full_disk_costs_the_memory_and_not_the_service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    LastGood(tmp_path / "nowhere" / "desired.json").save(1, {})
    assert "desired not saved" in caplog.text
