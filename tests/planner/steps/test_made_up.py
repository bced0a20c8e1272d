"""Made-up messages: for every step that reads one, such that it can read it."""

import io
import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus import main
from planner.cli import _sample
from planner.model import Model
from planner.steps import made_up_message
from planner.steps.samples import made_up_sound

Build = Callable[..., Model]
RunStep = Callable[..., tuple[np.ndarray, ...]]

ROW = {"step": "decode_row", "columns": ["amount", "country"]}
TABLE: dict[str, Any] = {
    "input": "x",
    "before": [
        ROW,
        {"step": "select", "columns": ["amount"]},
        {
            "step": "one_hot",
            "reads": "decode_row",
            "column": "country",
            "values": ["NL", "DE"],
            "unknown": "refuse",
        },
        {"step": "join", "reads": ["select", "one_hot"]},
    ],
}
ARRAYS = [
    {"step": "decode_array", "datatype": datatype, "shape": [2, 300]}
    for datatype in ("UINT8", "INT16", "FP16", "FP64")
]


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_row_holds_what_the_later_steps_take(around: Build, form: str) -> None:
    before = [{**ROW, "format": form}, *TABLE["before"][1:]]
    model = around({**TABLE, "before": before}, {"x": ("FP32", (1, 3))})
    made = model.whole().run({"bytes": np.array([made_up_message(model.steps)], np.object_)})
    assert made["x_out"].tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("step", ARRAYS, ids=lambda step: str(step["datatype"]))
def test_an_array_is_noise_of_its_type(around: Build, step: dict[str, Any]) -> None:
    model = around(
        {"before": [step, {"step": "standardise"}], "input": "x"}, {"x": ("FP32", (2, 300))}
    )
    made = model.whole().run({"bytes": np.array([made_up_message(model.steps)], np.object_)})
    assert np.allclose(made["x_out"].std(axis=-1), 1, atol=1e-3)


def test_a_sound_is_a_wav_file_of_the_rate() -> None:
    with wave.open(io.BytesIO(made_up_sound(8000, 2))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8000, 1, 16000)


def test_the_command_profiles_what_is_no_image_without_a_sample(
    around: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    around(TABLE, {"x": ("FP32", (1, 3))})
    profile = str(tmp_path / "p.json")
    assert main(["profile", str(tmp_path / "through.onnx"), "-o", profile, "--runs", "5"]) == 0
    capsys.readouterr()
    times = {op["name"] for op in json.loads(Path(profile).read_text())["ops"]}
    assert {"step:decode_row", "step:select", "step:one_hot", "step:x"} <= times


def test_a_sample_file_is_the_message_and_what_is_sent_beside_it_is_made_up(
    around: Build, tmp_path: Path
) -> None:
    model = around(TABLE, {"x": ("FP32", (1, 3)), "state": ("FP32", (1, 4))})
    (tmp_path / "row.json").write_text('{"amount": 2, "country": "DE"}')
    sample = _sample(model, tmp_path / "row.json")
    assert {name: array.shape for name, array in sample.items()} == {
        "bytes": (1,),
        "state": (1, 4),
    }
    assert model.whole().run(sample)["x_out"].tolist() == [[2, 0, 1]]
