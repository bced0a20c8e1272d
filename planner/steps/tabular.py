"""Steps on rows of a table: named columns to the float32 row that a network takes.

Between them a row is a BYTES tensor with the text of one cell for each column, so that it may
cross as it is; an empty cell is a missing value.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from planner.errors import InputError
from planner.steps.binding import (
    Ask,
    Bound,
    Decoder,
    Finite,
    Step,
    Unfit,
    Value,
    as_bytes_array,
    check,
    message_of,
    single,
)

_Columns = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=65_536)]


class DecodeRow(Decoder, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="decode_row"):
    """A JSON object, or a CSV line whose cells come in the order of ``columns``, to a row.

    BYTES of shape ``(columns,)``. What else a JSON object holds is left aside; a value that is
    missing or null is an empty cell, true is 1 and false 0.
    """

    columns: _Columns
    format: Literal["json", "csv"] = "json"
    delimiter: Literal[",", ";", "\t"] = ","

    def problem(self) -> str | None:
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        return f"names the column {twice[0]!r} twice: name each once" if twice else None

    def bind(self, ask: Ask) -> Bound:
        check(ask.given[0], ("BYTES",), ranks=(1,), what="the sensor's message")
        made = Value(
            name=ask.makes[0], datatype="BYTES", shape=(len(self.columns),), columns=self.columns
        )
        read = _json_cells if self.format == "json" else _csv_cells
        return single(made, lambda value: as_bytes_array(read(self, message_of(value))))

    def made_up(self) -> bytes:
        return self.message({})

    def message(self, cells: Mapping[str, str]) -> bytes:
        """A row with *cells*, and 1 in every other column."""
        row = {name: cells.get(name, "1") for name in self.columns}
        if self.format == "json":
            return msgspec.json.encode(row)
        out = io.StringIO()
        csv.writer(out, delimiter=self.delimiter).writerow(row.values())
        return out.getvalue().encode()


class Select(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="select"):
    """The numbers of some columns, float32, shape ``(1, columns)``.

    ``missing`` takes the place of an empty cell; without it such a row is refused.
    """

    columns: _Columns
    missing: Finite | None = None

    def bind(self, ask: Ask) -> Bound:
        places = np.array([_place(ask.given[0], name) for name in self.columns])
        made = Value(name=ask.makes[0], datatype="FP32", shape=(1, len(places)))
        return single(made, lambda row: select(self, row[places]))


class OneHot(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="one_hot"):
    """1 in the place of a column's value and 0 elsewhere, float32, shape ``(1, values)``.

    A value that ``values`` does not hold, or an empty cell, is all zeros or refused.
    """

    column: str
    values: _Columns
    unknown: Literal["zeros", "refuse"] = "zeros"

    def bind(self, ask: Ask) -> Bound:
        place = _place(ask.given[0], self.column)
        index = {value.encode(): i for i, value in enumerate(self.values)}
        made = Value(name=ask.makes[0], datatype="FP32", shape=(1, len(self.values)))
        return single(made, lambda row: one_hot(self, row[place], index))


class Join(Step, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="join"):
    """Several float32 rows one after the other: joined along the last dimension."""

    takes: ClassVar[int] = 2
    several: ClassVar[bool] = True

    def problem(self) -> str | None:
        return None if len(self.read) > 1 else "needs reads with the two or more that it joins"

    def bind(self, ask: Ask) -> Bound:
        first = check(ask.given[0], ("FP32",))
        for value in ask.given[1:]:
            if check(value, ("FP32",)).shape[:-1] != first.shape[:-1]:
                raise Unfit(
                    f"joins {list(first.shape)} and {list(value.shape)}: all but the last "
                    "dimension must be the same"
                )
        shape = (*first.shape[:-1], sum(value.shape[-1] for value in ask.given))
        made = Value(name=ask.makes[0], datatype="FP32", shape=shape)
        return single(made, lambda *rows: np.concatenate(rows, axis=-1))


def select(step: Select, cells: np.ndarray) -> np.ndarray:
    """Numbers of cells.

    Raises:
        InputError: one is missing, no number, or too large for float32.
    """
    if step.missing is not None:
        cells = np.where(cells == b"", repr(step.missing).encode(), cells)
    try:
        row = np.array(cells.tolist(), dtype=np.bytes_).astype(np.float64).astype(np.float32)
    except ValueError as error:
        raise InputError(_no_number(step.columns, cells)) from error
    if not np.isfinite(row).all():
        raise InputError(_no_number(step.columns, cells))
    return row[None]


def one_hot(step: OneHot, cell: bytes, index: dict[bytes, int]) -> np.ndarray:
    """The row of a value.

    Raises:
        InputError: the value is unknown, where the step refuses such.
    """
    row = np.zeros((1, len(index)), dtype=np.float32)
    place = index.get(cell)
    if place is not None:
        row[0, place] = 1
    elif step.unknown == "refuse":
        known = ", ".join(step.values[:8])
        raise InputError(f"column {step.column!r} holds {_shown(cell)}: send one of {known}")
    return row


def _json_cells(step: DecodeRow, message: bytes) -> list[bytes]:
    try:
        found = msgspec.json.decode(message, type=dict[str, msgspec.Raw])
        return [_cell(name, found.get(name)) for name in step.columns]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"the message ({len(message)} bytes) is no JSON object: send one with "
            f"{', '.join(step.columns[:8])}"
        ) from error


def _cell(name: str, raw: msgspec.Raw | None) -> bytes:
    if raw is None:
        return b""
    text = bytes(raw)
    match text[:1]:
        case b'"':
            return msgspec.json.decode(text, type=str).encode()
        case b"{" | b"[":
            raise InputError(f"column {name!r} holds {_shown(text)}: send one number or text")
        case b"n":
            return b""
        case b"t":
            return b"1"
        case b"f":
            return b"0"
    return text


def _csv_cells(step: DecodeRow, message: bytes) -> list[bytes]:
    try:
        text = message.decode()
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=step.delimiter))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"the message ({len(message)} bytes) is no CSV line in UTF-8") from error
    if len(rows) != 1 or len(rows[0]) != len(step.columns):
        found = f"{len(rows)} lines" if len(rows) != 1 else f"{len(rows[0])} cells"
        raise InputError(
            f"the message has {found}: send one line of {len(step.columns)} cells, "
            f"{step.delimiter.join(step.columns[:8])}"
        )
    return [cell.strip().encode() for cell in rows[0]]


def _place(row: Value, column: str) -> int:
    """Which cell of a row *column* is.

    Raises:
        Unfit: what the step reads is no row, or has no such column.
    """
    check(row, ("BYTES",), ranks=(1,), what="a row of decode_row's")
    if column not in row.columns:
        known = ", ".join(row.columns[:12]) or "none, for decode_row did not make it"
        raise Unfit(f"names the column {column!r}: {row.name!r} has {known}")
    return row.columns.index(column)


def _no_number(columns: Sequence[str], cells: np.ndarray) -> str:
    for name, cell in zip(columns, cells.tolist(), strict=True):
        try:
            if np.isfinite(np.float32(float(cell))):
                continue
        except (ValueError, OverflowError):
            pass
        if cell == b"":
            return f"column {name!r} is missing: send a number"
        return f"column {name!r} holds {_shown(cell)}: send a finite number"
    return "a column holds no finite number: send one in each"


def _shown(cell: bytes) -> str:
    return repr(cell[:40].decode(errors="replace"))
