"""From a message to a job, or to the reason why it is none."""

import json
import re
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import intake
from edge_agent.errors import Refused
from edge_agent.intake import InferJob, ReplyTo, Served
from edge_agent.packets import Message
from protos.envelope import pack
from protos.topics import InferTopic, Topics
from protos.wire import Tensor

TOPICS = Topics(device="cam-01")
PHOTOS = Served(version="3", sources=("bytes",), takes_bytes=True)
SOUNDS = Served(version="1", sources=("wave", "state"), takes_bytes=False)
SERVED = {"photos": PHOTOS, "sounds": SOUNDS}
JPEG = b"\xff\xd8\xff and so on"
INBOX = "isthmus/v1/c/app-7/inbox/cam-01"
UUID = bytes(range(16))
TENSORS = (
    Tensor.of("wave", np.zeros((1, 4), np.float32)),
    Tensor.of("state", np.ones(2, np.int64)),
)


def a_message(model: str = "photos", payload: bytes = JPEG, **changes: object) -> Message:
    fields: dict[str, object] = {"topic": TOPICS.infer(model, "req"), "payload": payload}
    return Message(**(fields | changes))  # type: ignore[arg-type]


def a_topic(model: str = "photos", correlation: str | None = None) -> InferTopic:
    return InferTopic(device="cam-01", model=model, side="req", correlation=correlation)


def job_of(message: Message, topic: InferTopic | None = None) -> InferJob:
    topic = topic or a_topic(message.topic.split("/")[-2])
    reply = intake.reply_to(message, topic, TOPICS)
    return intake.read(message, topic, reply, SERVED, deadline_s=2.0, max_payload_bytes=10_000)


def refusal_of(message: Message, topic: InferTopic | None = None) -> tuple[int, str]:
    with pytest.raises(Refused) as caught:
        job_of(message, topic)
    return caught.value.status, caught.value.detail


# What is taken ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["", "image/jpeg", "Image/JPEG; q=1", "application/octet-stream"])
def test_an_image_is_known_by_its_type_or_by_its_first_bytes(kind: str) -> None:
    job = job_of(a_message(content_type=kind, correlation=UUID))
    assert job == InferJob(
        id="00010203-0405-0607-0809-0a0b0c0d0e0f", model="photos", image=JPEG, budget_s=2.0
    )


@pytest.mark.parametrize("kind", ["", "application/vnd.isthmus.tensor"])
def test_framed_tensors_are_taken_as_they_are(kind: str) -> None:
    message = a_message("sounds", pack(TENSORS), content_type=kind, correlation=b"n-1")
    assert job_of(message) == InferJob(
        id="n-1", model="sounds", image=None, tensors=TENSORS, budget_s=2.0
    )


@pytest.mark.parametrize("kind", ["", "application/json"])
def test_open_inference_json_is_taken_with_its_id(kind: str) -> None:
    inputs = [
        {"name": "wave", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]},
        {"name": "state", "datatype": "INT64", "shape": [2], "data": [1, 1]},
    ]
    payload = json.dumps({"id": "mine", "inputs": inputs}).encode()
    assert job_of(a_message("sounds", payload, content_type=kind)) == InferJob(
        id="mine", model="sounds", image=None, tensors=TENSORS, budget_s=2.0
    )


def test_the_budget_and_the_version_may_be_asked_for() -> None:
    user = (("timeout-ms", "250.5"), ("model-version", "3"))
    assert job_of(a_message(user=user)).budget_s == 0.2505


def test_under_mqtt_311_the_budget_is_in_the_tensor_header() -> None:
    message = a_message("sounds", pack(TENSORS, {"timeout-ms": 700}))
    assert job_of(message).budget_s == 0.7


def test_a_request_without_any_id_gets_one() -> None:
    assert re.fullmatch("[0-9a-f]{32}", job_of(a_message()).id)


@pytest.mark.parametrize(
    ("correlation", "expected"),
    [
        (None, ""),
        (b"abc-1", "abc-1"),
        (UUID, "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        (b"\xff\x00", "ff00"),
        (b"\n", "0a"),
        (b"x" * 1000, "78" * intake.MAX_ID),
    ],
)
def test_an_id_is_text_that_can_be_printed(correlation: bytes | None, expected: str) -> None:
    assert intake.id_of(correlation) == expected


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "status", "sentence"),
    [
        (a_message(payload=b"hello"), 400, "is nothing that can be read"),
        (a_message(payload=b""), 400, "0 bytes) is nothing that can be read"),
        (a_message(payload=b"hello", content_type="image/png"), 400, "is no image"),
        (a_message(payload=b"hello", content_type="video/mp4"), 415, "video/mp4"),
        (a_message(payload=b"{", content_type="application/json"), 400, "not a JSON document"),
        (a_message(payload=b"{}"), 400, "missing required field `inputs`"),
        (a_message("sounds", b"IST1\xff\xff"), 400, "tensor"),
        (a_message("sounds", pack(TENSORS[:1])), 400, "the request holds wave: send tensors wave"),
        (a_message("sounds", JPEG), 415, "takes no image"),
        (a_message("photos", pack(TENSORS)), 400, "send a JPEG or PNG"),
        (a_message("birds"), 404, "there is no model birds on this device: it has photos, sounds"),
        (a_message(user=(("model-version", "4"),)), 404, "photos is here in version 3, not 4"),
        (a_message(payload=JPEG + bytes(10_000)), 413, "over the 10000 that are taken here"),
        (a_message(user=(("timeout-ms", "soon"),)), 400, "timeout-ms is 'soon'"),
        (a_message(user=(("timeout-ms", "0"),)), 400, "timeout-ms"),
        (a_message(user=(("timeout-ms", "nan"),)), 400, "timeout-ms"),
        (a_message(user=(("timeout-ms", "1e9"),)), 400, "at most an hour"),
    ],
)
def test_what_is_refused_says_why(message: Message, status: int, sentence: str) -> None:
    found, detail = refusal_of(message)
    assert found == status
    assert sentence in detail
    assert "\n" not in detail


@given(st.binary(max_size=300), st.sampled_from(["photos", "sounds"]), st.text(max_size=20))
def test_any_bytes_are_taken_or_refused_and_nothing_else(
    payload: bytes, model: str, kind: str
) -> None:
    for prefix in (b"", b"IST1", b"{", JPEG):
        with suppress(Refused):
            job_of(a_message(model, prefix + payload, content_type=kind))


# Where the answer goes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked", [INBOX, "isthmus/v1/d/cam-01/infer/photos/res", "isthmus/v1/d/cam-01/infer/x/res/7"]
)
def test_the_answer_goes_where_it_may_be_asked_for(asked: str) -> None:
    message = a_message(response_topic=asked, correlation=UUID, user=(("traceparent", "00-1-2-3"),))
    assert intake.reply_to(message, a_topic(), TOPICS) == ReplyTo(
        topic=asked, correlation=UUID, traceparent="00-1-2-3"
    )


@pytest.mark.parametrize(
    "asked",
    [
        "isthmus/v1/c/app-7/inbox/cam-02",
        "isthmus/v1/d/cam-02/infer/photos/res",
        "isthmus/v1/d/cam-01/desired",
        "isthmus/v1/fleet/all/desired",
        "isthmus/v1/c/+/inbox/cam-01",
        "$SYS/broker",
        "",
    ],
)
def test_nobody_can_have_the_device_write_elsewhere(asked: str) -> None:
    """A requester has fewer rights than the device: a confused deputy."""
    message = a_message(response_topic=asked)
    reply = intake.reply_to(message, a_topic(), TOPICS)
    assert reply == ReplyTo(topic="isthmus/v1/d/cam-01/infer/photos/res", denied=asked)
    assert refusal_of(message)[0] == 400


def test_without_properties_the_last_level_is_the_correlation() -> None:
    """MQTT 3.1.1."""
    reply = intake.reply_to(a_message(), a_topic(correlation="c-1"), TOPICS)
    assert reply == ReplyTo(topic="isthmus/v1/d/cam-01/infer/photos/res/c-1", correlation=b"c-1")


# What counts as the same request ----------------------------------------------------------------


def test_the_same_request_has_the_same_key() -> None:
    first = intake.key_of(a_message(correlation=UUID, response_topic=INBOX), a_topic())
    again = intake.key_of(a_message(correlation=UUID, response_topic=INBOX), a_topic())
    assert first == again is not None


@pytest.mark.parametrize(
    "change",
    [
        {"correlation": b"other"},
        {"payload": JPEG + b"!"},
        {"response_topic": "isthmus/v1/c/app-8/inbox/cam-01"},
    ],
)
def test_another_id_payload_or_requester_is_another_request(change: dict[str, object]) -> None:
    """A requester that numbers its requests from 1 after each start must get its own answers."""
    asked: dict[str, object] = {"correlation": UUID, "response_topic": INBOX}
    assert intake.key_of(a_message(**asked), a_topic()) != intake.key_of(  # type: ignore[arg-type]
        a_message(**(asked | change)),  # type: ignore[arg-type]
        a_topic(),
    )


def test_a_request_without_an_id_has_no_key() -> None:
    assert intake.key_of(a_message(), a_topic()) is None


def test_the_tensors_message_is_not_an_image_of_a_model_with_steps(
    picture: Callable[[int], bytes],
) -> None:
    named = Tensor.of("bytes", np.array([picture(0)], np.object_))
    job = job_of(a_message("photos", pack([named])))
    assert (job.image, job.tensors) == (None, (named,))
