"""Steps on rows of a table."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from planner.errors import InputError, StepsError

RunStep = Callable[..., tuple[np.ndarray, ...]]

COLUMNS = ["amount", "hour", "country"]
VALUES = {"columns": tuple(COLUMNS)}


def cells(*texts: bytes) -> np.ndarray:
    out = np.empty(len(texts), dtype=np.object_)
    out[:] = texts
    return out


@pytest.mark.parametrize(
    ("message", "row"),
    [
        (b'{"amount": 12.50, "hour": 3, "country": "NL"}', [b"12.50", b"3", b"NL"]),
        (b'{"country": "\\u00d6", "hour": 3, "amount": 1e3, "more": [1]}', None),
        (b'{"amount": true, "hour": null}', [b"1", b"", b""]),
        (b'{"amount": false, "hour": "7", "country": ""}', [b"0", b"7", b""]),
        (b"{}", [b"", b"", b""]),
    ],
)
def test_a_json_object_becomes_the_cells_of_its_columns(
    run_step: RunStep, message: bytes, row: list[bytes] | None
) -> None:
    (made,) = run_step({"step": "decode_row", "columns": COLUMNS}, message)
    assert made.tolist() == (row or [b"1e3", b"3", "Ö".encode()])


@pytest.mark.parametrize(
    ("message", "row"),
    [
        (b"12.50,3,NL\n", [b"12.50", b"3", b"NL"]),
        (b'1, 3 ,"a, ""b"""\r\n', [b"1", b"3", b'a, "b"']),
        (b",,", [b"", b"", b""]),
    ],
)
def test_a_csv_line_becomes_the_cells_in_order(
    run_step: RunStep, message: bytes, row: list[bytes]
) -> None:
    (made,) = run_step({"step": "decode_row", "columns": COLUMNS, "format": "csv"}, message)
    assert made.tolist() == row


def test_another_delimiter(run_step: RunStep) -> None:
    step = {"step": "decode_row", "columns": COLUMNS, "format": "csv", "delimiter": ";"}
    assert run_step(step, b"1,5;3;NL")[0].tolist() == [b"1,5", b"3", b"NL"]


@pytest.mark.parametrize(
    ("form", "message", "says"),
    [
        ("json", b"", "is no JSON object: send one with amount, hour, country"),
        ("json", b"[1, 2, 3]", "is no JSON object"),
        ("json", b'{"amount": 1', "is no JSON object"),
        ("json", b"\xff\xff", "is no JSON object"),
        ("json", b"[" * 100_000, "is no JSON object"),
        ("json", b'{"amount": {"a": 1}}', "column 'amount' holds .* send one number or text"),
        ("csv", b"", "the message has 0 lines: send one line of 3 cells, amount,hour,country"),
        ("csv", b"1,2", "the message has 2 cells: send one line of 3 cells"),
        ("csv", b"1,2,3\n4,5,6\n", "the message has 2 lines"),
        ("csv", b"\xff,1,2", "is no CSV line in UTF-8"),
    ],
)
def test_what_is_no_row_is_refused(run_step: RunStep, form: str, message: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        run_step({"step": "decode_row", "columns": COLUMNS, "format": form}, message)


def test_a_column_named_twice_is_refused(run_step: RunStep) -> None:
    with pytest.raises(ValueError, match="names the column 'a' twice: name each once"):
        run_step({"step": "decode_row", "columns": ["a", "b", "a"]}, b"{}")


def test_some_columns_become_numbers_in_the_order_asked_for(run_step: RunStep) -> None:
    step = {"step": "select", "columns": ["hour", "amount"]}
    (made,) = run_step(step, cells(b"12.5", b" 3 ", b"NL"), values=VALUES)
    assert (made.dtype.name, made.tolist()) == ("float32", [[3, 12.5]])


def test_a_missing_number_is_replaced_where_the_step_says_by_what(run_step: RunStep) -> None:
    step = {"step": "select", "columns": ["amount", "hour"]}
    row = cells(b"", b"3", b"NL")
    assert run_step({**step, "missing": -1.5}, row, values=VALUES)[0].tolist() == [[-1.5, 3]]
    with pytest.raises(InputError, match="column 'amount' is missing: send a number"):
        run_step(step, row, values=VALUES)


@pytest.mark.parametrize("cell", [b"NL", b"nan", b"inf", b"1e400", b"1e39", b"1,5", b"\xff"])
def test_what_is_no_finite_number_is_refused_with_its_column(
    run_step: RunStep, cell: bytes
) -> None:
    with pytest.raises(InputError, match=r"column 'hour' holds .*: send a finite number"):
        run_step({"step": "select", "columns": COLUMNS[:2]}, cells(b"1", cell, b""), values=VALUES)


def test_a_category_becomes_a_one_in_its_place(run_step: RunStep) -> None:
    step = {"step": "one_hot", "column": "country", "values": ["NL", "DE", "FR"]}
    assert run_step(step, cells(b"1", b"2", b"DE"), values=VALUES)[0].tolist() == [[0, 1, 0]]
    assert run_step(step, cells(b"1", b"2", b"US"), values=VALUES)[0].tolist() == [[0, 0, 0]]
    with pytest.raises(InputError, match="column 'country' holds 'US': send one of NL, DE, FR"):
        run_step({**step, "unknown": "refuse"}, cells(b"1", b"2", b"US"), values=VALUES)


@pytest.mark.parametrize(
    "fields", [{"step": "select", "columns": ["age"]}, {"step": "one_hot", "column": "age"}]
)
def test_a_column_that_the_row_does_not_have_is_refused(
    run_step: RunStep, fields: dict[str, Any]
) -> None:
    more = {"values": ["a"]} if fields["step"] == "one_hot" else {}
    with pytest.raises(StepsError, match="names the column 'age': 'in0' has amount, hour, country"):
        run_step({**fields, **more}, cells(b"1", b"2", b"3"), values=VALUES)


def test_rows_are_joined_one_after_the_other(run_step: RunStep) -> None:
    rows = [np.array([[1, 2]], np.float32), np.array([[3]], np.float32)]
    (made,) = run_step({"step": "join", "reads": ["a", "b"]}, *rows)
    assert made.tolist() == [[1, 2, 3]]


def test_rows_of_different_numbers_are_not_joined(run_step: RunStep) -> None:
    rows = [np.zeros((1, 2), np.float32), np.zeros((2, 2), np.float32)]
    with pytest.raises(StepsError, match="all but the last dimension must be the same"):
        run_step({"step": "join", "reads": ["a", "b"]}, *rows)
