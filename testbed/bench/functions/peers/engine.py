"""A model and the few lines that everybody writes around it; every peer runs this one."""

import os

import numpy as np
import onnxruntime as ort

DTYPES: dict[str, type[np.number]] = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class Engine:
    """A session for a model with one input and one output, opened as anybody would.

    One thread, like the instances that it is compared with.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
        (self._input,) = self._session.get_inputs()

    def run(self, value: np.ndarray) -> np.ndarray:
        """The one output for *value*."""
        (answer,) = self._session.run(None, {self._input.name: value})
        return np.asarray(answer)

    def answer(self, body: bytes) -> bytes:
        """The same for contents: those of the input, in the shape that the model fixes."""
        value = np.frombuffer(body, DTYPES[self._input.type]).reshape(self._input.shape)
        return self.run(value).tobytes()
