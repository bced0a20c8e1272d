"""The right answers that stand beside the files.

A name in a labels file is only ever looked up among the files that were found in the folder; no
path is made of it.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from planner.errors import InputError
from protos.documents import DocumentError, read_json

CSV, JSON = "labels.csv", "labels.json"
_HEADER = ["file", "label"]


def read_labels(path: Path, files: Sequence[str]) -> Mapping[str, str]:
    """The label of each of *files*, from a ``labels.csv`` or ``labels.json``.

    Raises:
        InputError: it cannot be read, is malformed, names a file twice or one that is not there,
            or lacks one.
    """
    known, labels = frozenset(files), dict[str, str]()
    for name, label in _from_csv(path) if path.name == CSV else _from_json(path):
        if name not in known:
            raise InputError(f"{path} labels {name[:80]!r}, which is no file beside it: mend it")
        if name in labels:
            raise InputError(f"{path} labels {name!r} twice: keep one of the two")
        labels[name] = label
    if lacking := [name for name in files if name not in labels]:
        raise InputError(f"{path} has no label for {lacking[0]!r}: add it, or move the file away")
    return labels


def _from_json(path: Path) -> Iterable[tuple[str, str]]:
    try:
        found = read_json(path, dict[str, str | int], what="labels file")
    except DocumentError as error:
        raise InputError(str(error)) from error
    return ((name, str(label)) for name, label in found.items())


def _from_csv(path: Path) -> Iterable[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except OSError as error:
        raise InputError(f"labels file {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"labels file {path} is no CSV in UTF-8: {error}") from error
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if not row or (number == 1 and cells == _HEADER):
            continue
        if len(cells) != 2 or not all(cells):
            raise InputError(f"labels file {path}, row {number}, is not of the form file,label")
        yield cells[0], cells[1]
