"""Malformed messages and steps never give anything but one sentence of ours."""

import io
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError, StepsError
from planner.steps import load, made_up_image
from planner.steps.audio import resample
from planner.steps.samples import made_up_sound

RunStep = Callable[..., tuple[np.ndarray, ...]]

soundfile = pytest.importorskip("soundfile")


def a_sound(form: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.zeros(300, np.float32), 16000, format=form)
    return out.getvalue()


DECODERS = [
    {"step": "decode"},
    {"step": "decode", "colour": "L"},
    {"step": "decode_audio"},
    {"step": "decode_audio", "rate_hz": 16000, "datatype": "INT16"},
    {"step": "decode_row", "columns": ["a", "b"]},
    {"step": "decode_row", "columns": ["a", "b"], "format": "csv"},
    {"step": "decode_array", "datatype": "INT16", "shape": [2, 3]},
]
WHOLE = [
    made_up_image(32, 24),
    made_up_sound(16000, 0.02),
    a_sound("FLAC"),
    a_sound("OGG"),
    b'{"a": 1.5, "b": "x"}',
    b"1.5,x\n",
    bytes(12),
]


def refused(call: Callable[[], object], by: type[Exception]) -> str:
    """The sentence that *call* is refused with, empty where it works; no other error passes."""
    try:
        call()
    except by as error:
        return str(error)
    return ""


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A real message cut short, with bytes changed or put in, or no message at all."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=200))
    data = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, min(len(data), 120)))
        data[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow's, on a file that it can still read
@pytest.mark.parametrize("step", DECODERS, ids=lambda step: "-".join(map(str, step.values())))
@settings(deadline=None)
@given(message=broken())
def test_a_malformed_message_is_refused_in_a_sentence(
    step: dict[str, object], message: bytes, run_step: RunStep
) -> None:
    said = refused(lambda: run_step(step, message), InputError)
    assert "\n" not in said
    assert len(said) < 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 40) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
TAGS = ["decode", "resize", "frame", "scale", "tokenise", "select", "reshape", "log_mel", "nms"]
FIELDS = ["reads", "makes", "width", "short", "std", "min", "max", "columns", "shape", "high_hz"]


@settings(deadline=None)
@given(
    document=st.fixed_dictionaries(
        {"schema": st.just("isthmus.steps/1")},
        optional={
            part: st.lists(
                st.fixed_dictionaries(
                    {"step": st.sampled_from(TAGS)},
                    optional=dict.fromkeys(FIELDS, JSON),
                )
                | JSON,
                max_size=3,
            )
            | JSON
            for part in ("before", "after", "input", "answers")
        },
    )
)
def test_a_malformed_steps_file_is_refused_in_a_sentence(
    document: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_bytes(msgspec.json.encode(document))
    assert "\n" not in refused(lambda: load(path), StepsError)


@settings(deadline=None)
@given(data=st.binary(max_size=80))
def test_bytes_that_are_no_steps_file_are_refused_in_a_sentence(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.json"
    path.write_bytes(data)
    with pytest.raises(StepsError):
        load(path)


@settings(deadline=None)
@given(
    rate=st.integers(-(2**31), 2**31 - 1),
    samples=st.integers(0, 300),
)
def test_a_rate_that_a_stranger_sends_is_refused_or_works(rate: int, samples: int) -> None:
    """After a cut before ``resample``, rate and samples come from the wire."""
    silence = np.zeros(samples, np.float32)
    assert "\n" not in refused(lambda: resample(silence, rate, 16000), InputError)
