"""What an instance answers, without sockets and without Ray."""
# ruff: noqa: ANN401  (builders take any field, and arrays are of any type)

import io
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from cloud_fn.errors import FunctionFailed, InvalidRequest
from cloud_fn.functions import Function
from cloud_fn.functions import instance as instance_module
from cloud_fn.functions.instance import Executed, Instance
from cloud_fn.functions.listener import respond
from cloud_fn.functions.loading import Loaded, Loader
from planner.model import read
from protos import codecs, wire
from protos.invocation import Reply, Request, Tensor
from protos.slices import Slice, axis_of, cut

X = np.array([[1, -2, 3, 0.5]], np.float32)


def ask(instance: Instance, model: str, inputs: Mapping[str, Any], **request: Any) -> Reply:
    tensors = tuple(
        array if isinstance(array, Tensor) else Tensor.of(name, array)
        for name, array in inputs.items()
    )
    return wire.decode_reply(
        instance.execute(wire.encode_request(Request(model=model, inputs=tensors, **request))).body
    )


def arrays(reply: Reply) -> dict[str, Any]:
    return {tensor.name: tensor.array().tolist() for tensor in reply.outputs}


def an_image(colour: str) -> np.ndarray[Any, Any]:
    file = io.BytesIO()
    Image.new("RGB", (5, 4), colour).save(file, "PNG")
    return np.array([file.getvalue()], object)


@pytest.fixture
def expected(functions: dict[str, Function]) -> dict[str, list[Any]]:
    """What ``mlp`` makes of X, and what is inside it."""
    model = read(Path(functions["mlp"].model_path))
    made = model.piece(["x"], ["hidden", "y"]).run({"x": X})
    return {name: value.tolist() for name, value in made.items()}


def test_the_networks_inputs_give_the_networks_outputs(
    functions: dict[str, Function], expected: dict[str, list[Any]]
) -> None:
    reply = ask(Instance(functions["mlp"]), "mlp", {"x": X}, id="7")
    assert (reply.model, reply.version, reply.id) == ("mlp", "1", "7")
    np.testing.assert_allclose(arrays(reply)["y"], expected["y"], rtol=1e-6)


def test_boundary_tensors_give_the_rest(
    functions: dict[str, Function], expected: dict[str, list[Any]]
) -> None:
    hidden = np.array(expected["hidden"], np.float32)
    reply = ask(Instance(functions["mlp"]), "mlp", {"hidden": hidden}, cut="plan-1")
    np.testing.assert_allclose(arrays(reply)["y"], expected["y"], rtol=1e-6)


@pytest.mark.parametrize("codec", ["raw", "raw+zstd", "fp16", "int8", "int8+zstd"])
def test_a_boundary_tensor_may_come_in_any_codec_that_suits_it(
    functions: dict[str, Function], expected: dict[str, list[Any]], codec: str
) -> None:
    hidden = Tensor.of("hidden", np.array(expected["hidden"], np.float32), codec)
    reply = ask(Instance(functions["mlp"]), "mlp", {"hidden": hidden}, cut="plan-1")
    np.testing.assert_allclose(arrays(reply)["y"], expected["y"], atol=0.1)


@pytest.mark.parametrize(
    ("codec", "number"), [("raw", 2), ("raw+zstd", 3), ("fp16", 3), ("int8", 3), ("int8+zstd", 2)]
)
def test_a_tensor_in_slices_and_chunks_gives_the_answer_of_the_whole(
    functions: dict[str, Function], codec: str, number: int
) -> None:
    instance = Instance(functions["colours"])
    x = np.random.default_rng(1).normal(size=(1, 3, 2, 2)).astype(np.float32)
    axis = axis_of(codecs.parse(codec), x.shape, number)
    assert axis == 1
    sent = tuple(
        Tensor.of("x", part, codec, slice=Slice(number=at, of=number, axis=axis))
        for at, part in enumerate(cut(x, number, axis), 1)
    )
    whole = arrays(ask(instance, "colours", {"x": Tensor.of("x", x, codec)}))
    at_once = wire.encode_request(Request(model="colours", inputs=sent))
    in_chunks = wire.joined(
        [
            wire.encode_request(
                Request(model="colours", id="7", inputs=(part,), chunk=(at, number))
            )
            for at, part in enumerate(sent, 1)
        ]
    )
    for data in (at_once, in_chunks):
        done = instance.execute(data)
        assert arrays(wire.decode_reply(done.body)) == whole
        assert done.load_s == 0.0


def test_a_tensor_whose_slices_are_not_all_there_is_refused(
    functions: dict[str, Function],
) -> None:
    first = Tensor.of("x", X[:, :2], slice=Slice(number=1, of=2, axis=1))
    with pytest.raises(InvalidRequest, match=r"^tensor 'x' has slices 1 of 2: send all, in order$"):
        ask(Instance(functions["mlp"]), "mlp", {"x": first})


def test_requested_outputs_are_given_in_the_order_asked_for(
    functions: dict[str, Function], expected: dict[str, list[Any]]
) -> None:
    reply = ask(Instance(functions["mlp"]), "mlp", {"x": X}, outputs=("y", "hidden"))
    assert [tensor.name for tensor in reply.outputs] == ["y", "hidden"]
    np.testing.assert_allclose(arrays(reply)["hidden"], expected["hidden"], rtol=1e-6)


def test_the_sensors_bytes_give_the_answer(functions: dict[str, Function]) -> None:
    reply = ask(Instance(functions["colours"]), "colours", {"bytes": an_image("lime")})
    assert arrays(reply) == {"label": [b"green"], "score": [1.0]}


def test_a_plan_that_cuts_before_the_network_gets_the_answer_and_a_foreign_client_the_network(
    functions: dict[str, Function],
) -> None:
    """Both send the same tensor; only one of them names a cut."""
    instance = Instance(functions["colours"])
    blue = np.zeros((1, 3, 2, 2), np.float32)
    blue[:, 2] = 1
    assert arrays(ask(instance, "colours", {"x": blue}, cut="p")) == {
        "label": [b"blue"],
        "score": [1.0],
    }
    assert arrays(ask(instance, "colours", {"x": blue})) == {"y": [[0.0, 0.0, 1.0]]}


def test_a_piece_is_loaded_once_however_many_ask_at_the_same_time(
    functions: dict[str, Function], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = Loader.load

    def counted(loader: Loader, *args: Any, **names: Any) -> Loaded:
        loads.append(args)
        return load(loader, *args, **names)

    monkeypatch.setattr(Loader, "load", counted)
    instance, together = Instance(functions["mlp"]), threading.Barrier(8)
    request = wire.encode_request(Request(model="mlp", inputs=(Tensor.of("x", X),)))

    def execute(_: int) -> Executed:
        together.wait(10)
        return instance.execute(request)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(execute, range(8)))
    assert len(loads) == 1
    assert len({answer.body for answer in answers}) == 1
    assert max(answer.load_s for answer in answers) > 0
    assert instance.execute(request).load_s == 0.0


def test_a_tail_that_was_warmed_is_not_loaded_again(functions: dict[str, Function]) -> None:
    instance = Instance(functions["mlp"])
    assert instance.warm(["hidden"]) > 0.0
    assert instance.warm(["hidden"]) == 0.0
    hidden = Tensor.of("hidden", np.ones((1, 8), np.float32))
    request = wire.encode_request(Request(model="mlp", inputs=(hidden,), cut="plan-1"))
    assert instance.execute(request).load_s == 0.0


def test_a_cut_that_parts_nothing_cannot_be_warmed(functions: dict[str, Function]) -> None:
    with pytest.raises(InvalidRequest, match="mlp:1 has no tensor 'q'"):
        Instance(functions["mlp"]).warm(["q"])


def test_only_so_many_pieces_are_kept(
    functions: dict[str, Function], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_module, "MAX_PIECES", 1)
    instance = Instance(functions["mlp"])
    request = wire.encode_request(Request(model="mlp", inputs=(Tensor.of("x", X),)))
    other = wire.encode_request(Request(model="mlp", inputs=(Tensor.of("x", X),), outputs=("m",)))
    loads = [instance.execute(each).load_s > 0 for each in (request, request, other, request)]
    assert loads == [True, False, True, True]


@pytest.mark.parametrize(
    ("inputs", "outputs", "sentence"),
    [
        ({"x": X.astype(np.float64)}, (), "input 'x' is FP64: it must be FP32"),
        ({"x": X[:, :3]}, (), r"input 'x' has shape \[1, 3\]: it must be \[1, 4\]"),
        ({"q": X}, (), "mlp:1 has no tensor 'q'"),
        ({"x": X}, ("q",), "mlp:1 has no tensor 'q'"),
        ({}, (), "no tensor is named"),
        ({"hidden": np.zeros((1, 8), np.float32)}, ("m",), "x is missing"),
    ],
)
def test_what_the_function_cannot_run_on_is_said_in_a_sentence(
    functions: dict[str, Function],
    inputs: dict[str, Any],
    outputs: tuple[str, ...],
    sentence: str,
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        ask(Instance(functions["mlp"]), "mlp", inputs, outputs=outputs)


def test_a_message_that_is_no_image_is_said_to_be_none(functions: dict[str, Function]) -> None:
    with pytest.raises(InvalidRequest, match="is no image that can be decoded"):
        ask(Instance(functions["colours"]), "colours", {"bytes": np.array([b"junk"], object)})


def test_garbage_is_an_answer_and_the_instance_goes_on(functions: dict[str, Function]) -> None:
    instance = Instance(functions["mlp"])
    header, body = respond(instance.execute, b"\xff\xff\xff")
    assert (header["error"], body) == ("invalid", b"")
    assert header["message"].startswith("the request is not an Open Inference message")
    assert "y" in arrays(ask(instance, "mlp", {"x": X}))


def test_a_model_that_is_gone_is_the_functions_fault(functions: dict[str, Function]) -> None:
    gone = msgspec.structs.replace(functions["mlp"], model_path="/nowhere/model", ready=())
    with pytest.raises(FunctionFailed, match="mlp:1 cannot be loaded: model /nowhere/model"):
        ask(Instance(gone), "mlp", {"x": X})


def test_code_that_fails_is_an_answer_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: object) -> Executed:
        raise ZeroDivisionError("division\nby zero")

    assert respond(broken, b"") == (
        {"error": "failed", "message": "the function failed: ZeroDivisionError division by zero"},
        b"",
    )
    assert "request failed: error=ZeroDivisionError" in caplog.text
