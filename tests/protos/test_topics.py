"""Every topic of the MQTT contract, both ways."""

import pytest

from protos import topics
from protos.errors import WireError
from protos.topics import (
    CommandTopic,
    DeviceTopic,
    EventTopic,
    FleetTopic,
    InboxTopic,
    InferTopic,
    JobTopic,
    PoolTopic,
    ResultTopic,
    Topic,
    Topics,
)

CAM = Topics(device="cam-01")
DEEP = Topics(root="acme/site_2", device="cam-01")


@pytest.mark.parametrize(
    ("text", "written", "topic"),
    [
        (CAM.status, "isthmus/v1/d/cam-01/status", DeviceTopic("cam-01", "status")),
        (CAM.info, "isthmus/v1/d/cam-01/info", DeviceTopic("cam-01", "info")),
        (CAM.desired, "isthmus/v1/d/cam-01/desired", DeviceTopic("cam-01", "desired")),
        (CAM.reported, "isthmus/v1/d/cam-01/reported", DeviceTopic("cam-01", "reported")),
        (CAM.metrics, "isthmus/v1/d/cam-01/metrics", DeviceTopic("cam-01", "metrics")),
        (
            CAM.infer("lenet", "req"),
            "isthmus/v1/d/cam-01/infer/lenet/req",
            InferTopic("cam-01", "lenet", "req"),
        ),
        (
            CAM.infer("lenet", "res", "c0ffee"),
            "isthmus/v1/d/cam-01/infer/lenet/res/c0ffee",
            InferTopic("cam-01", "lenet", "res", "c0ffee"),
        ),
        (CAM.result("door"), "isthmus/v1/d/cam-01/result/door", ResultTopic("cam-01", "door")),
        (
            CAM.event("plan_changed"),
            "isthmus/v1/d/cam-01/event/plan_changed",
            EventTopic("cam-01", "plan_changed"),
        ),
        (
            CAM.command("ping", "req"),
            "isthmus/v1/d/cam-01/cmd/ping/req",
            CommandTopic("cam-01", "ping", "req"),
        ),
        (
            CAM.command("ping", "res", "7"),
            "isthmus/v1/d/cam-01/cmd/ping/res/7",
            CommandTopic("cam-01", "ping", "res", "7"),
        ),
        (
            CAM.job("update", "j-7"),
            "isthmus/v1/d/cam-01/job/update/j-7",
            JobTopic("cam-01", "update", "j-7"),
        ),
        (CAM.inbox("app-1"), "isthmus/v1/c/app-1/inbox/cam-01", InboxTopic("app-1", "cam-01")),
        (
            CAM.pool_infer("yard", "lenet"),
            "isthmus/v1/pool/yard/infer/lenet/req",
            PoolTopic("yard", "lenet"),
        ),
        (CAM.fleet_desired("yard"), "isthmus/v1/fleet/yard/desired", FleetTopic("yard")),
    ],
)
def test_a_topic_is_written_as_the_contract_has_it_and_read_back(
    text: str, written: str, topic: Topic
) -> None:
    assert (text, CAM.parse(text)) == (written, topic)


def test_a_root_may_have_two_levels_and_leaves_room_for_eight_in_all() -> None:
    """AWS IoT Core allows no more."""
    assert DEEP.infer("lenet", "req") == "acme/site_2/v1/d/cam-01/infer/lenet/req"
    assert DEEP.parse(DEEP.status) == DeviceTopic("cam-01", "status")
    with pytest.raises(WireError) as caught:
        DEEP.infer("lenet", "req", "7")
    assert str(caught.value) == (
        "MQTT topic acme/site_2/v1/d/cam-01/infer/lenet/req/7 has more than 8 levels: "
        "use a root of one level"
    )


def test_filters_subscribe_to_this_device_alone() -> None:
    assert CAM.device_filter == "isthmus/v1/d/cam-01/#"
    assert CAM.infer_filter == "isthmus/v1/d/cam-01/infer/+/req/#"
    assert CAM.command_filter == "isthmus/v1/d/cam-01/cmd/+/req/#"
    assert CAM.pool_filter("yard") == "$share/yard/isthmus/v1/pool/yard/infer/+/req"


@pytest.mark.parametrize(
    "level", ["", "Cam", "cam 1", "cam/1", "-cam", "+", "#", "$sys", "ü", "a" * 64, "a\n", "a\0"]
)
def test_a_level_that_a_broker_or_a_list_of_rights_could_misread_is_refused(level: str) -> None:
    sentence = (
        f"MQTT topic level {level!r} is not allowed: use 1 to 63 of a-z, 0-9, _ and -, "
        "a letter or digit first"
    )
    with pytest.raises(WireError) as caught:
        Topics(device=level)
    assert str(caught.value) == sentence
    with pytest.raises(WireError) as caught:
        CAM.infer(level, "req")
    assert str(caught.value) == sentence


@pytest.mark.parametrize("root", ["", "/", "a/", "a/b/c", "$sys", "A"])
def test_a_root_that_is_none_is_refused(root: str) -> None:
    with pytest.raises(WireError, match=r"^MQTT "):
        Topics(root=root, device="cam-01")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "isthmus",
        "isthmus/v1",
        "isthmus/v1/",
        "isthmus/v2/d/cam-01/status",
        "other/v1/d/cam-01/status",
        "isthmus/v1/d/cam-01",
        "isthmus/v1/d/cam-01/status/more",
        "isthmus/v1/d/cam-01/infer/lenet",
        "isthmus/v1/d/cam-01/infer/lenet/both",
        "isthmus/v1/d/cam-01/infer/lenet/req/1/2",
        "isthmus/v1/d/+/status",
        "isthmus/v1/d/cam-01/status\n",
        "isthmus/v1/c/app/inbox",
    ],
)
def test_other_topics_are_refused(topic: str) -> None:
    with pytest.raises(WireError, match=r"^MQTT topic "):
        topics.parse(topic)


@pytest.mark.parametrize(
    ("topic", "allowed"),
    [
        ("isthmus/v1/c/app-1/inbox/cam-01", True),
        ("isthmus/v1/d/cam-01/infer/lenet/res", True),
        ("isthmus/v1/d/cam-01/infer/lenet/res/7", True),
        ("isthmus/v1/d/cam-01/cmd/ping/res", True),
        ("isthmus/v1/c/app-1/inbox/cam-02", False),
        ("isthmus/v1/d/cam-02/infer/lenet/res", False),
        ("isthmus/v1/d/cam-01/infer/lenet/req", False),
        ("isthmus/v1/d/cam-01/desired", False),
        ("isthmus/v1/fleet/yard/desired", False),
        ("isthmus/v1/c/+/inbox/cam-01", False),
        ("elsewhere", False),
    ],
)
def test_a_request_may_not_make_the_device_answer_where_it_likes(
    topic: str, *, allowed: bool
) -> None:
    """Else the requester would write with the device's rights (the confused deputy)."""
    assert CAM.may_answer_on(topic) is allowed
