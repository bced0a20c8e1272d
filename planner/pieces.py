"""Running a piece: steps, then ONNX Runtime, then steps."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnxruntime as ort

from planner.errors import InputError
from planner.graph import UNKNOWN, TensorInfo
from planner.steps import Run
from protos.errors import WireError
from protos.tensors import datatype_of

Network: TypeAlias = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclass(slots=True, eq=False)
class _Held:
    """A session, and how many runs of it there are now."""

    session: ort.InferenceSession
    running: int = 0


class Piece:
    """Some of a model's ops as something runnable; made by :meth:`planner.model.Model.piece`.

    ``inputs`` and ``outputs`` are tensor names. :meth:`run` may be called from several threads.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[str],
        before: Sequence[Run],
        session: ort.InferenceSession | None,
        after: Sequence[Run],
    ) -> None:
        self._infos = {info.name: info for info in inputs}
        self.inputs = tuple(self._infos)
        self.outputs = tuple(outputs)
        self._before = tuple(before)
        self._after = tuple(after)
        self._changed = threading.Condition()
        self._held = None if session is None else _Held(session)
        self._takes = [value.name for value in session.get_inputs()] if session else []
        self._makes = [value.name for value in session.get_outputs()] if session else []

    @property
    def is_empty(self) -> bool:
        """Whether nothing runs: every output is an input handed through."""
        return self._held is None and not self._before and not self._after

    def run(
        self, inputs: Mapping[str, np.ndarray], *, network: Network | None = None
    ) -> dict[str, np.ndarray]:
        """Run once.

        Args:
            inputs: one array for each of ``self.inputs``, of the tensor's type and shape.
            network: what runs the network's part, by default :meth:`network`.

        Returns:
            One array for each of ``self.outputs``.

        Raises:
            InputError: a tensor is missing, unknown or of the wrong type or shape, the message is
                no image, or ONNX Runtime refuses the values.
        """
        values = self._checked(inputs)
        for step in self._before:
            values |= step(values)
        if self._held is not None:
            feeds = {name: values[name] for name in self._takes}
            values |= (network or self.network)(feeds)
        for step in self._after:
            values |= step(values)
        return {name: values[name] for name in self.outputs}

    def swap(self, session: ort.InferenceSession) -> None:
        """Have *session*, which takes and makes the same, run what comes from now on.

        Returns once the one before has ended what it ran, and is gone.
        """
        with self._changed:
            assert self._held is not None
            before, self._held = self._held, _Held(session)
            self._changed.notify_all()
            while before.running:  # no limit: whoever runs a piece has one
                self._changed.wait()

    def network(self, feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Run the network's part alone, which there must be.

        Raises:
            InputError: ONNX Runtime refuses the values.
        """
        with self._changed:
            held = self._held
            assert held is not None
            held.running += 1
        try:
            made = held.session.run(self._makes, feeds)
        except Exception as error:  # ONNX Runtime's own classes share no base but Exception
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"the model cannot run on this input: {reason}") from error
        finally:
            with self._changed:
                held.running -= 1
                self._changed.notify_all()
        return dict(zip(self._makes, made, strict=True))

    def _checked(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if unknown := sorted(set(inputs) - set(self.inputs)):
            raise InputError(
                f"there is no input {unknown[0]!r}: the inputs are {', '.join(self.inputs)}"
            )
        for name, info in self._infos.items():
            if name not in inputs:
                raise InputError(f"the input {name!r} is missing: send {', '.join(self.inputs)}")
            array = inputs[name]
            try:
                datatype = datatype_of(array)
            except WireError as error:
                raise InputError(f"input {name!r}: {error}") from error
            if datatype != info.datatype:
                raise InputError(f"input {name!r} is {datatype}: it must be {info.datatype}")
            fits = len(array.shape) == len(info.shape) and all(
                want in (UNKNOWN, got) for got, want in zip(array.shape, info.shape, strict=True)
            )
            if not fits:
                raise InputError(
                    f"input {name!r} has shape {list(array.shape)}: it must be {list(info.shape)}"
                )
        return dict(inputs)
