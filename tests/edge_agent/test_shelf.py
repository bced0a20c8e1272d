"""The pieces of each plan: that they make the same answer, and what they share."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from edge_agent.errors import Refused
from edge_agent.intake import InferJob
from edge_agent.shelf import Chain, Shelf
from edge_agent.work import Finished, head, tail, whole
from planner.errors import CutError
from planner.model import Model
from planner.plans import Crossing, Plan, PlanDocument
from protos.tensors import Array
from protos.wire import decode_request


@pytest.fixture
def shelf(tiny_model: Model, plan_document: PlanDocument) -> Shelf:
    """The tiny model's shelf with every plan on it, and the whole model as ``whole``."""
    shelf = Shelf({"tiny": tiny_model}, threads=1)
    shelf.load("tiny", "whole", None)
    for plan in plan_document.plans:
        shelf.load("tiny", plan.id, plan)
    return shelf


def a_job(image: bytes) -> InferJob:
    return InferJob(id="1", model="tiny", image=image, budget_s=1.0)


def plain(outputs: Mapping[str, Array]) -> dict[str, list[object]]:
    return {name: array.tolist() for name, array in outputs.items()}


@pytest.mark.parametrize("plan", ["device-only", "plan-1", "cloud-jpeg"])
def test_head_and_tail_make_what_the_whole_makes(
    shelf: Shelf, plan: str, picture: Callable[[int], bytes]
) -> None:
    job = a_job(picture(3))
    expected = whole(job, shelf["tiny", "whole"])
    pieces = shelf["tiny", plan]
    headed = head(job, pieces, version="1", plan=plan, key="k", due_s=1e9)
    assert plain(tail(headed, pieces).outputs) == plain(expected.outputs)
    assert plain(whole(job, pieces).outputs) == plain(expected.outputs)
    assert list(expected.outputs) == ["label", "score"]


def test_the_request_to_the_cloud_holds_the_boundary(
    shelf: Shelf, picture: Callable[[int], bytes]
) -> None:
    headed = head(
        a_job(picture(3)), shelf["tiny", "plan-1"], version="2", plan="plan-1", key="k", due_s=0.0
    )
    request = decode_request(headed.chunks[0])
    (tensor,) = request.inputs
    assert (request.model, request.version, request.id) == ("tiny", "2", "k")
    assert (request.cut, request.key, request.deadline_ms) == ("plan-1", "k", 1.0)
    assert (tensor.name, tensor.datatype, tensor.shape) == ("relu", "FP32", (1, 4, 8, 8))
    assert headed.sent_bytes == 1024
    np.testing.assert_array_equal(tensor.array(), headed.boundary["relu"])


def test_a_plan_that_sends_the_message_itself_runs_nothing_here(
    shelf: Shelf, picture: Callable[[int], bytes]
) -> None:
    image = picture(3)
    pieces = shelf["tiny", "cloud-jpeg"]
    assert isinstance(pieces.head, Chain)
    assert (pieces.head.steps, pieces.head.rest) == (None, None)
    headed = head(a_job(image), pieces, version="1", plan="cloud-jpeg", key="k", due_s=1e9)
    assert decode_request(headed.chunks[0]).inputs[0].array().tolist() == [image]


def test_plans_that_send_some_form_of_the_input_share_one_session(shelf: Shelf) -> None:
    whole = shelf["tiny", "whole"].head
    assert isinstance(whole, Chain)
    assert whole.rest is shelf["tiny", "cloud-jpeg"].tail.rest
    assert whole.steps is shelf["tiny", "cloud-jpeg"].tail.steps


def test_what_is_no_image_is_refused_with_400(shelf: Shelf) -> None:
    for plan in ("whole", "plan-1"):
        with pytest.raises(Refused, match="no image") as caught:
            whole(a_job(b"\xff\xd8\xff but no picture"), shelf["tiny", plan])
        assert caught.value.status == 400


def test_a_value_that_the_codec_cannot_hold_crosses_raw(
    tiny_model: Model, plan_document: PlanDocument, picture: Callable[[int], bytes]
) -> None:
    """JPEG can't hold floats: the head still answers, with more bytes."""
    plan = plan_document.plan("plan-1")
    coded = Plan(
        id="p",
        crossing=(Crossing(tensor="relu", codec="jpeg:90", bytes=1),),
        ops_on_device=plan.ops_on_device,
        ops=plan.ops,
        device_s=0.0,
        encode_s=0.0,
        decode_s=0.0,
        cloud_s=0.0,
        download_bytes=0,
    )
    shelf = Shelf({"tiny": tiny_model}, threads=1)
    shelf.load("tiny", "p", coded)
    headed = head(a_job(picture(1)), shelf["tiny", "p"], version="1", plan="p", key="k", due_s=1e9)
    assert decode_request(headed.chunks[0]).inputs[0].codec == "raw"


def test_a_plan_of_another_model_is_an_error(
    tiny_model: Model, plan_document: PlanDocument
) -> None:
    plan = plan_document.plan("plan-1")
    other = Plan(
        id="p",
        crossing=(Crossing(tensor="elsewhere", codec="raw", bytes=1),),
        ops_on_device=plan.ops_on_device,
        ops=plan.ops,
        device_s=0.0,
        encode_s=0.0,
        decode_s=0.0,
        cloud_s=0.0,
        download_bytes=0,
    )
    with pytest.raises(CutError, match="elsewhere"):
        Shelf({"tiny": tiny_model}, threads=1).load("tiny", "p", other)


def test_an_unloaded_plan_is_gone_and_who_holds_it_can_go_on(
    shelf: Shelf, picture: Callable[[int], bytes]
) -> None:
    held = shelf["tiny", "plan-1"]
    shelf.unload("tiny", "plan-1")
    assert isinstance(whole(a_job(picture(1)), held), Finished)
    with pytest.raises(KeyError):
        shelf["tiny", "plan-1"]
