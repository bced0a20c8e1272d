"""The JSON messages of the MQTT contract."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from protos import messages
from protos.errors import WireError
from protos.json_tensors import JsonTensor
from protos.messages import (
    Desired,
    DesiredLink,
    DesiredModel,
    Estimate,
    Fault,
    Hardware,
    HeldModel,
    InferRequest,
    InferResult,
    Info,
    Milestones,
    ModelRef,
    MqttLimits,
    Placement,
    PlanChanged,
    Problem,
    Reported,
    Runtime,
    Status,
    Terms,
)
from protos.tensors import Array

STATUS = Status(
    state="online", boot="01J", seq=3, ts=datetime(2026, 11, 24, 6, tzinfo=UTC), agent="1.2.0"
)
DESIRED = Desired(
    version=42,
    models={"lenet": DesiredModel(version="3", digest="ab12", plan="plan-7f3")},
    link=DesiredLink(bandwidth_bps=731_250.0, rtt_s=0.05),
)
RESULT = InferResult(
    id="7",
    model=ModelRef(name="lenet", version="3", digest="ab12"),
    outputs=(JsonTensor(name="label", shape=(1,), datatype="BYTES", data=["cat"]),),
    placement=Placement(mode="split", plan="plan-7f3", split=("a/b", "c")),
    ms=Milestones(queue=1.0, pre=4.0, edge=11.0, net=8.0, cloud=6.0, total=31.0),
    timing=Terms(trigger=8.4, init=0.0, load=0.0, infer=20.5, response=2.1),
    sent_bytes=50_176,
    received_bytes=11,
)


@pytest.mark.parametrize(
    ("message", "written"),
    [
        (
            STATUS,
            {
                "state": "online",
                "boot": "01J",
                "seq": 3,
                "ts": "2026-11-24T06:00:00Z",
                "agent": "1.2.0",
            },
        ),
        (
            Info(
                device="cam-01",
                agent="1.2.0",
                hw=Hardware(arch="aarch64", cpu="Cortex-A72", cores=4, mem_mb=4096),
                runtime=Runtime(onnxruntime="1.32.0", eps=("CPUExecutionProvider",)),
                models=(HeldModel(name="lenet", version="3", digest="ab12", role="full"),),
                mqtt=MqttLimits(v=5, max_payload=262_144),
            ),
            {
                "schema": 1,
                "device": "cam-01",
                "agent": "1.2.0",
                "hw": {
                    "arch": "aarch64",
                    "cpu": "Cortex-A72",
                    "cores": 4,
                    "mem_mb": 4096,
                    "accel": [],
                },
                "runtime": {"onnxruntime": "1.32.0", "eps": ["CPUExecutionProvider"]},
                "models": [
                    {
                        "name": "lenet",
                        "version": "3",
                        "digest": "ab12",
                        "role": "full",
                        "splits": [],
                    }
                ],
                "inputs": [],
                "mqtt": {"v": 5, "max_payload": 262_144},
                "cmds": [],
                "jobs": [],
            },
        ),
        (
            PlanChanged(
                boot="01J",
                ts=datetime(2026, 11, 24, 6, tzinfo=UTC),
                model="lenet",
                before="device-only",
                plan="plan-7f3",
                estimate=Estimate(up_bps=731_250.0, rtt_s=0.05, local_s=-0.01),
            ),
            {
                "boot": "01J",
                "ts": "2026-11-24T06:00:00Z",
                "model": "lenet",
                "from": "device-only",
                "to": "plan-7f3",
                "estimate": {"up_bps": 731_250.0, "rtt_s": 0.05, "local_s": -0.01},
            },
        ),
        (
            Placement(mode="edge", plan="device-only", estimate=Estimate(pace=1.5)),
            {"mode": "edge", "plan": "device-only", "split": [], "estimate": {"pace": 1.5}},
        ),
        (
            DESIRED,
            {
                "version": 42,
                "models": {"lenet": {"version": "3", "digest": "ab12", "plan": "plan-7f3"}},
                "link": {"bandwidth_bps": 731_250.0, "rtt_s": 0.05},
                "log_level": "info",
            },
        ),
        (
            Reported(
                applied_version=41,
                status="rejected",
                errors=(Fault(path="models.lenet", code="digest_mismatch", msg="differs"),),
                config=Desired(version=41),
            ),
            {
                "applied_version": 41,
                "status": "rejected",
                "errors": [{"path": "models.lenet", "code": "digest_mismatch", "msg": "differs"}],
                "config": {
                    "version": 41,
                    "models": {},
                    "link": {"bandwidth_bps": None, "rtt_s": None},
                    "log_level": "info",
                },
            },
        ),
        (
            RESULT,
            {
                "id": "7",
                "model": {"name": "lenet", "version": "3", "digest": "ab12"},
                "outputs": [{"name": "label", "shape": [1], "datatype": "BYTES", "data": ["cat"]}],
                "placement": {"mode": "split", "plan": "plan-7f3", "split": ["a/b", "c"]},
                "ms": {
                    "queue": 1.0,
                    "pre": 4.0,
                    "edge": 11.0,
                    "net": 8.0,
                    "cloud": 6.0,
                    "total": 31.0,
                },
                "timing": {
                    "trigger": 8.4,
                    "init": 0.0,
                    "load": 0.0,
                    "infer": 20.5,
                    "response": 2.1,
                },
                "sent_bytes": 50_176,
                "received_bytes": 11,
                "degraded": False,
            },
        ),
        (
            Problem(title="Not an image", status=400, detail="the payload is text", id="7"),
            {"title": "Not an image", "status": 400, "detail": "the payload is text", "id": "7"},
        ),
    ],
)
def test_a_message_is_written_as_the_contract_has_it_and_read_back(
    message: msgspec.Struct, written: dict[str, Any]
) -> None:
    data = messages.encode(message)
    assert json.loads(data) == written
    assert messages.decode(data, type(message), what="message") == message


def test_a_request_is_open_inference_json() -> None:
    data = b'{"id":"7","inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2.5]}]}'
    request = messages.decode(data, InferRequest, what="request")
    assert request.id == "7"
    assert [each.tensor().array().tolist() for each in request.inputs] == [[1.0, 2.5]]


def test_reports_of_a_newer_device_are_read_and_its_new_fields_left_aside() -> None:
    data = messages.encode(STATUS)[:-1] + b',"mood":"fine"}'
    assert messages.decode(data, Status, what="status") == STATUS


def test_a_device_is_not_asked_for_what_it_does_not_know() -> None:
    """It must not report as applied what it never understood."""
    data = messages.encode(DESIRED)[:-1] + b',"mood":"fine"}'
    with pytest.raises(WireError) as caught:
        messages.decode(data, Desired, what="desired document")
    assert str(caught.value) == (
        "desired document is not valid: Object contains unknown field `mood`"
    )


@pytest.mark.parametrize(
    ("data", "type_", "sentence"),
    [
        (
            b'{"state":"asleep"}',
            Status,
            "message is not valid: Invalid enum value 'asleep' at field `state`",
        ),
        (
            b'{"state":"lost","boot":"1","ts":"2026-11-24T06:00:00","agent":"1"}',
            Status,
            "message is not valid: Expected `datetime` with a timezone component at field `ts`",
        ),
        (
            b'{"version":-1}',
            Desired,
            "message is not valid: Expected `int` >= 0 at field `version`",
        ),
        (
            b'{"title":"","status":200}',
            Problem,
            "message is not valid: Expected `int` >= 400 at field `status`",
        ),
        (
            b'{"inputs":[]}',
            InferRequest,
            "message is not valid: Expected `array` of length >= 1 at field `inputs`",
        ),
        (b"\xff", Status, "message is not a JSON document: JSON is malformed: invalid character"),
        (b'{"a":' * 5000, Status, "message is nested too deeply: send plain JSON"),
    ],
)
def test_what_is_no_such_message_is_refused(
    data: bytes, type_: type[msgspec.Struct], sentence: str
) -> None:
    with pytest.raises(WireError) as caught:
        messages.decode(data, type_, what="message")
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("array", "data"),
    [
        (np.array([[1, 2], [3, 4]], np.int32).T, [1, 3, 2, 4]),
        (np.array([True, False]), [True, False]),
        (np.array([0.5], np.float16), [0.5]),
        (np.array([2**64 - 1], np.uint64), [2**64 - 1]),
        (np.array([b"caf\xc3\xa9", b"\xff"], object), ["café", "\\xff"]),
        (np.array(["café"]), ["café"]),
        (np.array(1.5, np.float32), [1.5]),
    ],
)
def test_a_json_tensor_lists_its_elements_row_by_row(array: Array, data: list[Any]) -> None:
    tensor = JsonTensor.of("x", array)
    assert (tensor.shape, tensor.data) == (array.shape, data)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "array"),
    [
        ("INT8", (2, 2), [[-128, 0], [1, 127]], np.array([[-128, 0], [1, 127]], np.int8)),
        ("INT8", (2, 2), [-128, 0, 1, 127], np.array([[-128, 0], [1, 127]], np.int8)),
        ("UINT64", (1,), [2**64 - 1], np.array([2**64 - 1], np.uint64)),
        ("FP32", (2,), [1, 2.5], np.array([1, 2.5], np.float32)),
        ("BF16", (1,), [1.5], np.array([1.5], np.float32)),
        ("BOOL", (1, 1), [[True]], np.array([[True]])),
        ("BYTES", (2,), ["a", "ü"], np.array([b"a", b"\xc3\xbc"], object)),
        ("FP32", (0, 3), [], np.empty((0, 3), np.float32)),
        ("FP32", (), [1.5], np.array(1.5, np.float32)),
    ],
)
def test_a_json_tensor_may_be_flat_or_nested(
    datatype: str, shape: tuple[int, ...], data: list[Any], array: Array
) -> None:
    tensor = JsonTensor(name="x", shape=shape, datatype=datatype, data=data).tensor()
    assert (tensor.name, tensor.datatype, tensor.codec) == ("x", datatype, "raw")
    np.testing.assert_array_equal(tensor.array(), array, strict=True)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "sentence"),
    [
        ("INT8", (1,), [128], "an element does not fit in INT8: send a wider datatype"),
        ("UINT8", (1,), [-1], "an element does not fit in UINT8: send a wider datatype"),
        ("INT8", (1,), [1.5], "an element of INT8 is 1.5: send int"),
        ("INT8", (1,), [True], "an element of INT8 is true: send int"),
        ("FP32", (1,), [None], "an element of FP32 is null: send float or int"),
        ("FP32", (1,), [1e300], "an element does not fit in FP32: send a wider datatype"),
        ("FP64", (1,), [10**400], "an element does not fit in FP64: send a wider datatype"),
        ("BYTES", (1,), [1], "an element of BYTES is 1: send str"),
        ("BYTES", (2,), ["a", ["b"]], 'an element of BYTES is ["b"]: send str'),
        ("FP32", (3,), [1, 2], "2 elements came for shape [3]: send all of them"),
        ("FP32", (1 << 49,), [1], "shape [562949953421312] is too large: "),
        ("FP31", (1,), [1], "datatype 'FP31' is unknown: "),
        ("BOOL", (1,), ["x" * 99], 'an element of BOOL is "xxxxxxxxxxxxxxxx...: send bool'),
    ],
)
def test_a_json_tensor_that_is_none_is_refused_by_name(
    datatype: str, shape: tuple[int, ...], data: list[Any], sentence: str
) -> None:
    with pytest.raises(WireError) as caught:
        JsonTensor(name="x", shape=shape, datatype=datatype, data=data).tensor()
    assert str(caught.value).startswith(f"tensor 'x': {sentence}")
