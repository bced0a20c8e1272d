"""Why a steps file is refused: the step, the field, what was found and what is allowed."""

import re
from collections.abc import Sequence

import msgspec

from planner.steps.binding import Step

Kinds = Sequence[type[Step]]

_PLACE = re.compile(r"^(?P<text>.*) - at `\$(?P<path>.*)`$", re.DOTALL)
_PART = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]+)\]")


def refusal(error: Exception, data: bytes, what: str, *, before: Kinds, after: Kinds) -> str:
    """One sentence for *error*, with which msgspec refused *data*.

    Args:
        error: msgspec's, or what deep nesting and broken text raise.
        data: the file.
        what: how the sentence calls the file.
        before: the steps that there are before the network.
        after: those that there are after it.
    """
    if isinstance(error, RecursionError):
        return f"{what} is nested too deeply: write plain JSON"
    if not isinstance(error, msgspec.ValidationError):
        return f"{what} is not a JSON document: {error}"
    match = _PLACE.match(str(error))
    text, path = (match["text"], match["path"]) if match else (str(error), "")
    parts = [name or int(index) for name, index in _PART.findall(path)]
    document = _decoded(data)
    step, field = _step_and_field(document, parts)
    said = f"{what} is not valid: {step}{f', field `{field}`' if field else ''}: {text}"
    found = _at(document, parts)
    allowed = before if parts[:1] == ["before"] else after
    if text.startswith("Invalid") and field == "step":
        return f"{said}; there are {', '.join(sorted(map(_tag, allowed)))}"
    if "unknown field" in text:
        return f"{said}; it may have {', '.join(_fields(document, parts, allowed))}"
    if text.startswith(("Expected", "Invalid")) and not isinstance(found, dict | list):
        return f"{said}, found {msgspec.json.encode(found).decode()[:60]}"
    return said


def _decoded(data: bytes) -> object:
    """The document, None where it goes wrong after what was refused."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _step_and_field(document: object, parts: list[str | int]) -> tuple[str, str]:
    if len(parts) >= 2 and isinstance(parts[1], int):
        kind = _at(document, parts[:2])
        name = kind.get("step", "") if isinstance(kind, dict) else ""
        shown = f" {name[:40]}" if isinstance(name, str) and name else ""
        return f"{parts[0]} step {parts[1]}{shown}", _written(parts[2:])
    return "the file", _written(parts)


def _written(parts: list[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")


def _at(document: object, parts: list[str | int]) -> object:
    for part in parts:
        match document, part:
            case dict(), str():
                document = document.get(part)
            case list(), int() if part < len(document):
                document = document[part]
            case _:
                return None
    return document


def _tag(kind: type[Step]) -> str:
    return str(kind.__struct_config__.tag)


def _fields(document: object, parts: list[str | int], allowed: Kinds) -> list[str]:
    """The fields of the step at *parts*, or of the file."""
    if not parts:
        return ["schema", "input", "before", "after", "answers"]
    tag = _at(document, [*parts[:2], "step"])
    found = next((kind for kind in allowed if _tag(kind) == tag), Step)
    return ["step", *found.__struct_encode_fields__]
