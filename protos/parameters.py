"""The Open Inference Protocol's `parameters` maps <-> plain mappings."""

import re
from collections.abc import Mapping
from math import isfinite
from typing import TypeVar

from protos.errors import WireError
from protos.gen.open_inference_pb2 import InferParameter
from protos.invocation import Parameter
from protos.slices import MOST
from protos.timing import Waits

_T = TypeVar("_T", bound=Parameter)
_CHUNK = re.compile(r"([0-9]{1,2})/([0-9]{1,2})")


def put(into: Mapping[str, InferParameter], values: Mapping[str, Parameter | None]) -> None:
    """Add *values* to a message's map; None is left out.

    Raises:
        ValueError: an integer that 64 bits cannot hold.
    """
    for name, value in values.items():
        match value:
            case None:
                pass
            case bool():
                into[name].bool_param = value
            case int() if value < 1 << 63:
                into[name].int64_param = value
            case int():
                into[name].uint64_param = value
            case float():
                into[name].double_param = value
            case str():
                into[name].string_param = value


def read(entries: Mapping[str, InferParameter], what: str) -> dict[str, Parameter]:
    """Read a message's map.

    Raises:
        WireError: an entry without a value.
    """
    values: dict[str, Parameter] = {}
    for name, entry in entries.items():
        choice = entry.WhichOneof("parameter_choice")
        if choice is None:
            raise WireError(f"{what} parameter {name!r} has no value: leave it out or set one")
        values[name] = getattr(entry, choice)
    return values


def take(values: dict[str, Parameter], name: str, type_: type[_T]) -> _T | None:
    """Remove and give parameter *name*; None when it is absent.

    Raises:
        WireError: it is of another type.
    """
    value = values.pop(name, None)
    if value is None or type(value) is type_:
        return value
    raise WireError(f"parameter {name} is {value!r}: send a {type_.__name__}")


def take_deadline_ms(values: dict[str, Parameter]) -> float | None:
    """Remove and give ``isthmus_deadline_ms``, which clients send as any kind of number.

    Raises:
        WireError: it is no positive, finite number.
    """
    value = values.pop("isthmus_deadline_ms", None)
    if value is None:
        return None
    if isinstance(value, bool | str) or not (isfinite(value) and value > 0):
        raise WireError(
            f"parameter isthmus_deadline_ms is {value!r}: send a positive number of milliseconds"
        )
    return float(value)


def waits_values(waits: Waits | None) -> dict[str, Parameter | None]:
    """The parameters that tell *waits*; :func:`take_waits` reads them."""
    if waits is None:
        return {}
    return {
        "isthmus_requests": waits.requests,
        "isthmus_queue_ms": waits.queue_s * 1e3,
        "isthmus_cold_chance": waits.cold_chance,
        "isthmus_cold_ms": waits.cold_s * 1e3,
    }


def take_waits(values: dict[str, Parameter]) -> Waits | None:
    """Remove and give what :func:`waits_values` wrote; None when it is absent.

    Raises:
        WireError: some of it is absent, or is no such figure.
    """
    requests = take(values, "isthmus_requests", int)
    names = ("isthmus_queue_ms", "isthmus_cold_chance", "isthmus_cold_ms")
    found = [take(values, name, float) for name in names]
    if requests is None and found == [None] * 3:
        return None
    queue_ms, chance, cold_ms = (-1.0 if each is None else each for each in found)
    sane = all(isfinite(each) and each >= 0 for each in (queue_ms, chance, cold_ms))
    if requests is None or requests < 0 or not sane or chance > 1:
        raise WireError(
            f"the waits are {requests} requests and {found}: send a count, ms, a share and ms"
        )
    return Waits(
        requests=requests, queue_s=queue_ms / 1e3, cold_chance=chance, cold_s=cold_ms / 1e3
    )


def chunk_text(chunk: tuple[int, int] | None) -> str | None:
    """Write which chunk of how many: ``2/3``.

    Raises:
        ValueError: there is no such chunk.
    """
    if chunk is None:
        return None
    number, of = chunk
    if not 1 <= number <= of <= MOST:
        raise ValueError(f"chunk {number} of {of}: use 1 <= number <= of <= {MOST}")
    return f"{number}/{of}"


def take_chunk(values: dict[str, Parameter]) -> tuple[int, int] | None:
    """Remove and give ``isthmus_chunk``.

    Raises:
        WireError: it is none.
    """
    text = take(values, "isthmus_chunk", str)
    if text is None:
        return None
    if found := _CHUNK.fullmatch(text):
        number, of = map(int, found.groups())
        if 1 <= number <= of <= MOST:
            return number, of
    raise WireError(
        f"parameter isthmus_chunk is {text[:40]!r}: send number/of, such as 2/3, of at most {MOST}"
    )
