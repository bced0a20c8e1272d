"""A function's own Python before and after the engine. It runs inside its instance, and only there.

A handler is part of the function: whatever it does wrong is the function's failure, told in one
sentence; the traceback is in the instance's log.
"""

import importlib
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self, TypeAlias

import numpy as np

from cloud_fn.errors import FunctionFailed, InvalidRequest
from cloud_fn.functions.settings import HANDLER
from protos.errors import WireError
from protos.tensors import datatype_of

log = logging.getLogger(__name__)

Arrays: TypeAlias = Mapping[str, np.ndarray]
Run: TypeAlias = Callable[[Arrays], dict[str, np.ndarray]]

_FIRST_LINE_CHARS = 200


@dataclass(frozen=True, slots=True)
class Handler:
    """Arrays by name in, arrays by name out; ``name`` is what its settings call it."""

    name: str
    function: Callable[[dict[str, np.ndarray]], object]

    def __call__(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """Run it once.

        Raises:
            FunctionFailed: it raised, or what it gave is no dict of arrays that a message can hold.
            InvalidRequest: it says so itself, by raising one.
            MemoryError: it needed more than the instance may have.
        """
        try:
            made = self.function(dict(arrays))
        except (InvalidRequest, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            log.exception("handler failed: handler=%s", self.name)
            raise FunctionFailed(f"handler {self.name} raised {_first_line(error)}") from error
        return _checked(self.name, made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """What goes before the engine and after it; None is nothing."""

    before: Handler | None = None
    after: Handler | None = None

    @classmethod
    def load(cls, before: str | None, after: str | None, *, folder: Path | None = None) -> Self:
        """Import both; see :func:`load`."""
        return cls(
            before=None if before is None else load(before, folder=folder),
            after=None if after is None else load(after, folder=folder),
        )

    def wrap(self, run: Run) -> Run:
        """*run* with the handlers around it: *run* itself where there are none."""
        if self.before is None and self.after is None:
            return run

        def wrapped(inputs: Arrays) -> dict[str, np.ndarray]:
            return self.made(run(self.given(inputs)))

        return wrapped

    def given(self, inputs: Arrays) -> Arrays:
        """What the engine is given of *inputs*."""
        return inputs if self.before is None else self.before(inputs)

    def made(self, outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What becomes of the engine's *outputs*."""
        return outputs if self.after is None else self.after(outputs)


def load(name: str, *, folder: Path | None = None) -> Handler:
    """Import the handler ``package.module:callable``.

    It comes from what is installed beside the server or, after that, from *folder*; this process's
    ``sys.path`` has both from then on, and no path that depends on where it was started.

    Raises:
        FunctionFailed: there is no such module or callable, or its import failed.
    """
    if HANDLER.fullmatch(name) is None:
        raise FunctionFailed(
            f"handler {name[:80]!r} is no handler's name: write package.module:callable"
        )
    module_name, _, attribute = name.partition(":")
    module = _import(name, module_name, folder)
    function = getattr(module, attribute, None)
    if function is None:
        raise FunctionFailed(
            f"handler {name} is not there: module {module_name} has no {attribute}"
        )
    if not callable(function):
        raise FunctionFailed(
            f"handler {name} is a {type(function).__name__}: name something that can be called"
        )
    return Handler(name, function)


def _import(name: str, module_name: str, folder: Path | None) -> ModuleType:
    places = [place for place in sys.path if Path(place).is_absolute()]
    if folder is not None and str(folder.absolute()) not in places:
        places.append(str(folder.absolute()))  # last: it cannot stand in for what is installed
    sys.path[:] = places
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(f"{missing}."):
            lacking = (
                "the server's environment has no"
                if folder is None
                else f"neither the server's environment nor {folder} has a"
            )
            raise FunctionFailed(
                f"handler {name} is not there: {lacking} module {missing}"
            ) from error
        raise FunctionFailed(
            f"handler {name} cannot be imported: it needs the module {missing}, which is not "
            "installed"
        ) from error
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        log.exception("handler not imported: handler=%s", name)
        raise FunctionFailed(
            f"handler {name} cannot be imported: it raised {_first_line(error)}"
        ) from error


def _checked(name: str, made: object) -> dict[str, np.ndarray]:
    if not isinstance(made, dict):
        raise FunctionFailed(
            f"handler {name} gave a {type(made).__name__}: it must give a dict of arrays by name"
        )
    for key, value in made.items():
        if not isinstance(key, str):
            raise FunctionFailed(
                f"handler {name} gave an array the name {str(key)[:80]!r}, a {type(key).__name__}: "
                "names are texts"
            )
        if not isinstance(value, np.ndarray):
            raise FunctionFailed(
                f"handler {name} gave a {type(value).__name__} for {key[:80]!r}: it must be a "
                "numpy array"
            )
        _check_elements(name, key, value)
    return made


def _check_elements(name: str, key: str, array: np.ndarray) -> None:
    try:
        datatype_of(array)
    except WireError as error:
        raise FunctionFailed(
            f"handler {name} gave for {key[:80]!r} what no message can hold: {error}"
        ) from error
    if array.dtype.kind == "O":
        strange = next((each for each in array.flat if not isinstance(each, bytes | str)), None)
        if strange is not None:
            raise FunctionFailed(
                f"handler {name} gave for {key[:80]!r} an array of {type(strange).__name__} "
                "objects: give numbers, bytes or texts"
            )


def _first_line(error: BaseException) -> str:
    """The error's type and the first line that it says."""
    said = str(error).strip().partition("\n")[0][:_FIRST_LINE_CHARS]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
