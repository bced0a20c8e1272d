"""What the bench tells the two processes, and what they answer: headers of frames, as JSON."""

from typing import Annotated

import msgspec

from planner.plans import Plan

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(gt=0, le=1)]


class TensorHead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tensor of a frame's body: ``bytes`` of it, as ``codec`` wrote them.

    ``part`` says which slice of it that is, as :mod:`protos.slices` writes it; empty: all of it.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    codec: str
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    part: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One chunk of a request: slice ``number`` of ``of`` of a tensor (1 of 1: all of it).

    ``stage`` says whether a stage of the head ends before it.
    """

    tensor: str
    number: Count = 1
    of: Count = 1
    stage: bool = False


class Way(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as the rig runs it: (tensor, codec) pairs cross; none where all is on the device.

    ``chunks`` are the messages that a request can be sent in while the head still works.
    """

    id: str
    crossing: tuple[tuple[str, str], ...]
    chunks: tuple[Message, ...] = ()


class Share(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of a stream goes one way; shares are relative to their sum."""

    way: str
    share: Annotated[float, msgspec.Meta(gt=0)]


class Load(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="order"
):
    """Forget what was loaded; read the model, open every way's piece and run it once.

    The frame's body holds the sample, ``tensors`` says how: what the device starts from.
    """

    model: str
    steps: str | None
    dims: dict[str, int]
    ways: tuple[Way, ...]
    tensors: tuple[TensorHead, ...] = ()


class Check(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="order"
):
    """Answer the sample in every way once, and compare with the whole model on the device.

    A way with chunks is tried whole and in chunks.
    """


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="order"):
    """Answer the sample ``count`` times, one at a time, ``rest_s`` after each.

    ``pace`` is the fraction that the device slows itself to: see :mod:`testbed.bench.rig.pace`.
    Where the way has chunks, ``chunked`` sends each as soon as it is ready.
    """

    way: str
    count: Count = 1
    chunked: bool = False
    pace: Fraction = 1.0
    rest_s: Seconds = 0.0


class Stream(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="order"
):
    """Keep ``in_flight`` frames on the way to the cloud, until one of the bounds is reached.

    ``fill`` completions are not counted, then ``frames`` are; no frame starts after ``limit_s``.
    """

    shares: tuple[Share, ...]
    in_flight: Count
    fill: Count
    frames: Count
    limit_s: Annotated[float, msgspec.Meta(gt=0)]
    pace: Fraction = 1.0


Order = Load | Check | Ask | Stream


class Loaded(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="report"
):
    """All pieces are open and warm."""

    pieces: int


class Checked(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="report"
):
    """By way: the largest difference of any number of its answers from the whole model's.

    None where a text or a shape differs.
    """

    difference: dict[str, float | None]


class Asked(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="report"
):
    """Seconds from the sample to the decoded answer, and the two machines' parts of them.

    One figure for each request: ``head_s`` is the head and its codecs, ``cloud_s`` what the cloud
    says it took.
    """

    total_s: tuple[float, ...]
    head_s: tuple[float, ...]
    cloud_s: tuple[float, ...]
    sent_bytes: int


class Streamed(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="report"
):
    """``fps`` frames were completed per second in the steady state, over ``frames`` of them.

    It is None where fewer than two frames were counted. ``by_way`` counts all that were completed.
    """

    fps: float | None
    frames: int
    seconds: float
    by_way: dict[str, int]


class Failed(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="report"
):
    """The order could not be carried out; the reason is one sentence."""

    reason: str


Report = Loaded | Checked | Asked | Streamed | Failed


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Header of a frame from device to cloud: run the way's tail on these tensors.

    It is message ``number`` of ``of``; the tail runs on the tensors of all.
    """

    way: str
    frame: int
    tensors: tuple[TensorHead, ...]
    number: Count = 1
    of: Count = 1


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Header of a frame from cloud to device; ``error`` says why there are no tensors."""

    way: str
    frame: int
    tensors: tuple[TensorHead, ...] = ()
    cloud_s: float = 0.0
    error: str = ""


def way_of(plan: Plan, *, chunked: bool = True) -> Way:
    """The way that *plan* describes, under the plan's name; only *chunked* it has chunks."""
    return Way(
        id=plan.id,
        crossing=tuple((each.tensor, each.codec) for each in plan.crossing),
        chunks=tuple(
            Message(tensor=chunk.tensor, number=chunk.number, of=chunk.of, stage=chunk.device_s > 0)
            for chunk in plan.chunks
            if chunked
        ),
    )
