"""The outcomes of a long job's steps on disk, so that a job that was killed goes on where it was.

One file per step: a line of JSON, then the step's reply. A file is there whole or not at all, and
its digest says whether it still is what was written.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from cloud_fn.errors import CloudError, TooLarge
from protos.tensors import Buffer

log = logging.getLogger(__name__)

KEPT = 2
"""Replies that a loop keeps: the last, and the one before should the last be damaged."""

_LOCK = "lock"
_PREFIX = "step-"
_MAX_HEADER_BYTES = 1024


class CheckpointError(CloudError):
    """The checkpoint cannot be used: it is another job's, is in use, or cannot be written."""


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal["isthmus.step/1"] = "isthmus.step/1"
    job: str
    step: int
    sha256: str


class Checkpoint:
    """The steps of one job in one folder, held by one process at a time."""

    def __init__(
        self,
        folder: Path,
        job: str,
        *,
        keep: int | None,
        max_step_bytes: int = 64 << 20,
        max_bytes: int = 4 << 30,
    ) -> None:
        """Open nothing yet; see :meth:`held`.

        Args:
            folder: the job's own; made if need be.
            job: the job's digest.
            keep: how many of the last replies are kept, at least 2; None keeps all.
            max_step_bytes: the most that one reply may have.
            max_bytes: the most that all replies there may have together.
        """
        if keep is not None and keep < KEPT:
            raise ValueError(f"keep must be at least {KEPT}, got {keep}")
        self._folder, self._job, self._keep = folder, job, keep
        self._max_step_bytes, self._max_bytes = max_step_bytes, max_bytes
        self._bytes: dict[int, int] = {}
        self._total_bytes = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder; the kernel lets go of it however the process ends.

        Raises:
            CheckpointError: another process runs the job, or the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = (self._folder / _LOCK).open("a")
        except OSError as error:
            raise CheckpointError(
                f"checkpoint {self._folder} cannot be used ({error.strerror}): give a folder that "
                "we may write"
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise CheckpointError(
                    f"checkpoint {self._folder} is in use: the job runs already"
                ) from error
            for draft in self._folder.glob(f".{_PREFIX}*"):
                draft.unlink()  # of a process that was killed while it wrote
            yield

    def done(self) -> tuple[int, bytes | None]:
        """How many steps are done, and the last one's reply.

        A damaged step and all after it count as not done: they are run again.

        Raises:
            CheckpointError: what is there is another job's.
        """
        steps = self._steps()
        count, last = 0, None
        if self._keep is None:
            for step in steps:
                reply = self.reply(step) if step == count else None
                if reply is None:
                    break
                count, last = step + 1, reply
        else:
            for step in reversed(steps):
                if (reply := self.reply(step)) is not None:
                    count, last = step + 1, reply
                    break
        if again := [step for step in steps if step >= count]:
            log.warning("steps are run again: folder=%s first=%d", self._folder, again[0])
            for step in again:
                self._path(step).unlink(missing_ok=True)
        self._bytes = {step: self._path(step).stat().st_size for step in steps if step < count}
        self._total_bytes = sum(self._bytes.values())
        return count, last

    def reply(self, step: int) -> bytes | None:
        """The reply of one step, None where it is not there or damaged.

        Raises:
            CheckpointError: it is another job's.
        """
        try:
            data = self._path(step).read_bytes()
        except OSError:
            return None
        line, _, body = data.partition(b"\n")
        try:
            header = msgspec.json.decode(line[:_MAX_HEADER_BYTES], type=_Header)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if header.step != step or header.sha256 != _digest(header.job, step, body):
            return None
        if header.job != self._job:
            raise CheckpointError(
                f"checkpoint {self._folder} is another job's: give this one a folder of its own"
            )
        return body

    def write(self, step: int, reply: Buffer) -> None:
        """Record the outcome of *step*; when this returns it is on disk.

        Raises:
            TooLarge: the reply, or all together, exceed the bounds.
            CheckpointError: it cannot be written; the steps before are untouched.
        """
        others = self._total_bytes - self._bytes.get(step, 0)
        if len(reply) > self._max_step_bytes or others + len(reply) > self._max_bytes:
            raise TooLarge(
                f"step {step} has {len(reply)} bytes beside the {others} of other steps: at most "
                f"{self._max_step_bytes} a step and {self._max_bytes} in all are kept"
            )
        digest = _digest(self._job, step, reply)
        header = msgspec.json.encode(_Header(job=self._job, step=step, sha256=digest))
        path = self._path(step)
        draft = path.with_name(f".{path.name}")
        try:
            with draft.open("wb") as file:
                file.writelines((header, b"\n", reply))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            _sync(self._folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise CheckpointError(
                f"step {step} cannot be written to {self._folder} ({error.strerror}): make room "
                "and run the job again"
            ) from error
        self._bytes[step] = len(reply)
        self._total_bytes = others + len(reply)
        if self._keep is not None:
            for old in [at for at in self._bytes if at <= step - self._keep]:
                self._path(old).unlink(missing_ok=True)
                self._total_bytes -= self._bytes.pop(old)

    def _steps(self) -> list[int]:
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        numbers = [name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)]
        return sorted(int(number) for number in numbers if number.isdecimal())

    def _path(self, step: int) -> Path:
        return self._folder / f"{_PREFIX}{step:08d}"


def _digest(job: str, step: int, body: Buffer) -> str:
    found = hashlib.sha256(f"{job} {step}\n".encode())
    found.update(body)
    return found.hexdigest()


def _sync(folder: Path) -> None:
    """Have the folder's own entries on disk: a rename is in them."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
