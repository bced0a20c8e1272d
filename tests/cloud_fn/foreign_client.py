"""Asks a server with a client that we did not write, and prints what it got as JSON.

A process of its own: that client registers the same protocol as ours, and protobuf takes one only.
"""
# ruff: noqa: ANN401  (arrays are of any type)

import io
import json
import queue
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from PIL import Image
from tritonclient.utils import InferenceServerException


def an_input(name: str, array: Any, datatype: str) -> triton.InferInput:
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


def failure(call: Callable[[], object]) -> tuple[str, str]:
    """The status and sentence of a call that must fail."""
    try:
        call()
    except InferenceServerException as error:
        return str(error.status()), str(error.message())
    return "OK", ""


def infer_red(client: triton.InferenceServerClient) -> list[str]:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(file, "JPEG", quality=95)
    message = an_input("bytes", np.array([file.getvalue()], object), "BYTES")
    found: list[bytes] = client.infer("colours", [message]).as_numpy("label").tolist()
    return [label.decode() for label in found]


def stream(client: triton.InferenceServerClient, x: Any) -> list[Any]:
    replies: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: replies.put((result, error)))
    for number in range(4):
        client.async_stream_infer("mlp", [an_input("x", x, "FP32")], request_id=str(number))
    client.async_stream_infer("nope", [an_input("x", x, "FP32")], request_id="lost")
    got: list[Any] = []
    for _ in range(5):
        result, error = replies.get(timeout=30)
        if error is None:
            got.append([result.get_response().id, result.as_numpy("y").tolist()])
        else:
            got.append(["error", error.message()])
    client.stop_stream()
    return sorted(got)


def main(address: str) -> None:
    client = triton.InferenceServerClient(address)
    x = np.array([[1, -2, 3, 0.5]], np.float32)
    metadata = client.get_model_metadata("mlp")
    json.dump(
        {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("mlp"),
            "other_ready": client.is_model_ready("nope"),
            "server": client.get_server_metadata().name,
            "inputs": [[t.name, t.datatype, list(t.shape)] for t in metadata.inputs],
            "index": [
                [each.name, each.version] for each in client.get_model_repository_index().models
            ],
            "y": client.infer("mlp", [an_input("x", x, "FP32")]).as_numpy("y").tolist(),
            "version": client.infer("mlp", [an_input("x", x, "FP32")]).get_response().model_version,
            "red": infer_red(client),
            "stream": stream(client, x),
            "unknown": failure(lambda: client.infer("nope", [an_input("x", x, "FP32")])),
            "shape": failure(lambda: client.infer("mlp", [an_input("x", x[:, :2], "FP32")])),
            "datatype": failure(
                lambda: client.infer("mlp", [an_input("x", x.astype(np.int32), "INT32")])
            ),
        },
        sys.stdout,
    )
    client.close()


if __name__ == "__main__":
    main(sys.argv[1])
