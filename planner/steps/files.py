"""The files that a steps file names (a tokenizer, a list of labels), and the digest of it all."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from planner.errors import StepsError
from planner.steps.declare import Steps, parse_steps, read_bytes
from protos.documents import encode_json

MAX_FILE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A steps file with the files that it names, by the names that it gives them."""

    steps: Steps
    data: bytes
    files: Mapping[str, bytes]

    @property
    def stored(self) -> bytes:
        """The steps file with each file called by the SHA-256 of what it holds.

        So it can stand in a folder of files that are named that way. A steps file that names none
        stays as it is.
        """
        if not self.files:
            return self.data
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
        return encode_json(_renamed(self.steps, self.data, digests))

    def digest(self, network: str) -> str:
        """SHA-256 of *network*'s digest, the steps and what the files hold, whatever their names.

        So a model keeps its digest in a registry that stores files by their contents.
        """
        return hashlib.sha256(network.encode() + self.stored).hexdigest()


def load(path: Path) -> Loaded:
    """Read a ``steps.json`` and the files that it names.

    Raises:
        StepsError: one cannot be read, the steps file is malformed, or it names a file that is not
            in its own folder.
    """
    data = read_bytes(path, "steps file")
    steps = parse_steps(data, path)
    files = {name: _read_beside(path, name) for name in steps.files}
    return Loaded(steps=steps, data=data, files=files)


def beside(steps: Path, name: str) -> Path:
    """Where the file *name* is that *steps* names.

    Raises:
        StepsError: it is not in the folder of *steps*, or no file.
    """
    relative = PurePosixPath(name)
    path = steps.parent / relative
    try:
        outside = not path.resolve().is_relative_to(steps.parent.resolve())
        there = path.is_file()
    except (OSError, ValueError, RuntimeError):  # a loop of links, a NUL, a name that is too long
        outside, there = False, False
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or outside:
        raise StepsError(
            f"steps file {steps} names {name[:80]!r}: a file must lie in the steps file's own "
            "folder, so name it relative to that and without '..'"
        )
    if not there:
        raise StepsError(f"steps file {steps} names {name[:80]!r}, which is no file: put it there")
    return path


def _read_beside(steps: Path, name: str) -> bytes:
    path = beside(steps, name)
    if path.stat().st_size > MAX_FILE_BYTES:
        raise StepsError(f"steps file {steps} names {name!r}, which is over {MAX_FILE_BYTES} bytes")
    return read_bytes(path, f"the file that steps file {steps} names,")


def _renamed(steps: Steps, data: bytes, names: Mapping[str, str]) -> object:
    document = msgspec.json.decode(data)
    for part, declared in (("before", steps.before), ("after", steps.after)):
        for index, step in enumerate(declared):
            for field in step.files:
                if getattr(step, field) is not None:
                    document[part][index][field] = names[getattr(step, field)]
    return document
