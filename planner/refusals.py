"""Why a document is refused: the field, what was found there and what is allowed."""

import json
import math
import re
from collections.abc import Iterator

from protos.documents import DocumentError

_PLACE = re.compile(r"^(?P<text>.*) - at `\$\.?(?P<path>.*)`$", re.DOTALL)
_PART = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]+)\]")
_SHOWN = 60


def explain(error: DocumentError, data: bytes, what: str) -> str:
    """One sentence for *error*, with which :func:`protos.documents.decode_json` refused *data*.

    NaN and infinity, which JSON does not have but Python writes, are found too.

    Args:
        error: as it was raised.
        data: the document.
        what: how the sentence calls it.
    """
    document = _leniently(data)
    for path, number in _numbers(document):
        if not math.isfinite(number):
            return f"{what} is not valid: field `{path}` is {number}: a finite number is allowed"
    match = _PLACE.match(str(error.__cause__))
    if match is None:
        return str(error)
    found = _at(document, match["path"])
    text = match["text"]
    if not text.startswith(("Expected", "Invalid")) or isinstance(found, dict | list):
        return str(error)
    shown = json.dumps(found)[:_SHOWN]
    return f"{what} is not valid: field `{match['path']}` is {shown}: {text[0].lower()}{text[1:]}"


def _leniently(data: bytes) -> object:
    """The document, with NaN and infinity; None where it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _numbers(value: object, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{path}[{index}]")


def _at(document: object, path: str) -> object:
    for name, index in _PART.findall(path):
        match document:
            case dict():
                document = document.get(name)
            case list() if index and int(index) < len(document):
                document = document[int(index)]
            case _:
                return None
    return document
