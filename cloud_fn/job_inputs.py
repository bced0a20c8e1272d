"""What a job asks: the lines of a file, or the files of a folder, each read when it is its turn.

Only where each request lies stays in memory. What has changed since the job began ends it, because
the job's digest says what it began with.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from cloud_fn import rest
from cloud_fn.errors import InvalidRequest
from planner.steps.wiring import SOURCE
from protos import wire
from protos.invocation import Request, Tensor

MOST_BYTES = 1 << 30
"""What one request may have at most; no gateway takes more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a request lies: some bytes of a file that was as *stamp* says."""

    path: Path
    stamp: tuple[int, int, int]
    start: int
    length: int
    label: str

    def read(self) -> bytes:
        """What lies there.

        Raises:
            InvalidRequest: the file has gone or changed, or holds too much.
        """
        if self.length > MOST_BYTES:
            raise InvalidRequest(
                f"{self.label} has {self.length} bytes: a request has at most {MOST_BYTES}"
            )
        try:
            with self.path.open("rb") as file:
                same = _stamp(os.fstat(file.fileno())) == self.stamp
                file.seek(self.start)
                data = file.read(self.length)
        except OSError as error:
            raise InvalidRequest(f"{self.label} cannot be read: {error.strerror}") from error
        if not same or len(data) != self.length:
            raise InvalidRequest(
                f"{self.path} has changed since the job began: a job's input must stay as it is"
            )
        return data


class Requests(Sequence[bytes]):
    """The encoded requests that *path* holds for one model, in the order of lines or of names.

    Of a folder, each file below it is what a sensor says, and the request's id is the file's name
    there; hidden ones are left out. Of a file, each line is a request as the protocol's JSON has
    it, and the id, unless it has one, the line's number.
    """

    def __init__(self, path: Path, *, model: str, version: str = "") -> None:
        """Find them; nothing is encoded before it is asked for.

        Raises:
            InvalidRequest: there is none, or *path* cannot be read.
        """
        self._model, self._version = model, version
        self._is_folder = path.is_dir()
        try:
            self._places = _files(path) if self._is_folder else _lines(path)
        except OSError as error:
            raise InvalidRequest(
                f"input {path} cannot be read ({error.strerror}): give a folder, or a file with a "
                "request on each line"
            ) from error
        if not self._places:
            raise InvalidRequest(f"input {path} holds no requests: give one at least")

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[bytes, ...]: ...

    def __getitem__(self, index: int | slice) -> bytes | tuple[bytes, ...]:
        """Read and encode one.

        Raises:
            InvalidRequest | DocumentError: it is none, or it has changed.
        """
        if isinstance(index, slice):
            return tuple(self[each] for each in range(*index.indices(len(self))))
        place = self._places[index]
        if self._is_folder:
            picture = Tensor.of(SOURCE, np.array([place.read()], dtype=np.object_))
            return wire.encode_request(
                Request(model=self._model, version=self._version, id=place.label, inputs=(picture,))
            )
        number = place.label.rpartition(" ")[2]
        return rest.decode_request(
            place.read(), self._model, self._version, what=place.label, id_=number
        )


def _files(folder: Path) -> tuple[_Place, ...]:
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            status = path.stat()
            found.append(
                _Place(
                    path=path,
                    stamp=_stamp(status),
                    start=0,
                    length=status.st_size,
                    label=name.as_posix(),
                )
            )
    return tuple(found)


def _lines(path: Path) -> tuple[_Place, ...]:
    found, start = [], 0
    with path.open("rb") as file:
        stamp = _stamp(os.fstat(file.fileno()))
        for number, line in enumerate(file, 1):
            if line.strip():
                label = f"{path} line {number}"
                found.append(
                    _Place(path=path, stamp=stamp, start=start, length=len(line), label=label)
                )
            start += len(line)
    return tuple(found)


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns
