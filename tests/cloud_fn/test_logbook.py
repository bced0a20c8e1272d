"""What is remembered of requests, and what is chosen from it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from cloud_fn.functions.learning import Learning
from cloud_fn.functions.logbook import (
    FILE,
    KEPT_MINUTES,
    USUAL_BYTES,
    Arrivals,
    Asked,
    Logbook,
    read_arrivals,
)
from cloud_fn.functions.scaling import Learned, Log

START = 30_000_000


class Wall:
    """A clock on the wall that is set by hand."""

    def __init__(self) -> None:
        self.minute = START

    def __call__(self) -> float:
        return self.minute * 60.0 + 1.0


@pytest.fixture
def wall() -> Wall:
    return Wall()


def a_book(root: Path, wall: Wall) -> Logbook:
    return Logbook(root, wall=wall)


def test_requests_are_counted_by_the_minute_and_survive_the_server(
    tmp_path: Path, wall: Wall
) -> None:
    book = a_book(tmp_path, wall)
    for minute in (0, 0, 5, 7):
        wall.minute = START + minute
        book.asked("m")
    book.save({"m": 1 << 20})
    expected = Arrivals(
        since=START,
        functions={
            "m": Asked(minutes=((START, 2), (START + 5, 1), (START + 7, 1)), size_bytes=1 << 20)
        },
    )
    assert read_arrivals(tmp_path / FILE) == expected
    assert a_book(tmp_path, wall).arrivals() == expected


def test_idle_times_are_those_between_minutes_with_requests(tmp_path: Path, wall: Wall) -> None:
    book = a_book(tmp_path, wall)
    for minute in (0, 0, 5, 7):
        wall.minute = START + minute
        book.asked("m")
    wall.minute = START + 10
    arrivals = book.arrivals()
    assert arrivals.logs(book.minute()) == (
        Log(size_bytes=USUAL_BYTES, idles_s=(300.0, 120.0), open_s=180.0),
    )
    assert arrivals.span_s(book.minute()) == 600.0


def test_nothing_is_written_while_nothing_is_asked(tmp_path: Path, wall: Wall) -> None:
    a_book(tmp_path, wall).save({})
    assert not (tmp_path / FILE).exists()


def test_what_is_older_than_two_weeks_goes(tmp_path: Path, wall: Wall) -> None:
    book = a_book(tmp_path, wall)
    book.asked("old")
    book.asked("both")
    wall.minute = START + KEPT_MINUTES + 1
    book.asked("both")
    arrivals = book.arrivals()
    assert arrivals.functions == {"both": Asked(minutes=((wall.minute, 1),))}
    assert arrivals.since == wall.minute - KEPT_MINUTES


def test_a_clock_that_is_set_back_costs_no_request_and_no_order(tmp_path: Path, wall: Wall) -> None:
    book = a_book(tmp_path, wall)
    book.asked("m")
    wall.minute = START - 60
    book.asked("m")
    book.save({})
    assert read_arrivals(tmp_path / FILE).functions["m"].minutes == ((START - 60, 1), (START, 1))
    assert a_book(tmp_path, wall).arrivals().logs(START - 60)[0].idles_s == ()


def test_a_log_that_makes_no_sense_is_put_aside(tmp_path: Path, wall: Wall) -> None:
    (tmp_path / FILE).write_text('{"schema": "isthmus.arrivals/1", "since": -1}')
    book = a_book(tmp_path, wall)
    book.asked("m")
    book.save({})
    assert list(read_arrivals(tmp_path / FILE).functions) == ["m"]
    assert '"since": -1' in (tmp_path / "arrivals.broken.json").read_text()


def test_a_disk_that_takes_nothing_is_endured_and_tried_again(tmp_path: Path, wall: Wall) -> None:
    root = tmp_path / "root"
    root.write_text("a file where a folder should be")
    book = a_book(root, wall)
    book.asked("m")
    book.save({})
    root.unlink()
    book.save({})
    assert list(read_arrivals(root / FILE).functions) == ["m"]


def test_gateways_of_one_registry_keep_one_log(tmp_path: Path, wall: Wall) -> None:
    """Each adds what it was asked, and learns what the others were."""
    first, second = (a_book(tmp_path, wall) for _ in range(2))
    first.asked("a")
    first.asked("both")
    second.asked("both")
    first.save({})
    second.save({})
    wall.minute = START + 1
    first.asked("both")
    first.save({})
    expected = {
        "a": Asked(minutes=((START, 1),)),
        "both": Asked(minutes=((START, 2), (START + 1, 1))),
    }
    assert read_arrivals(tmp_path / FILE).functions == expected
    assert first.arrivals().functions == expected


def test_what_is_chosen_from_the_log_is_told(tmp_path: Path, wall: Wall) -> None:
    """Functions that are asked every ten minutes: the prior of another one says so."""
    book = a_book(tmp_path, wall)
    for number in range(20):
        wall.minute = START + 10 * number
        for name in "abcd":
            book.asked(name)
    told: list[tuple[Learned, Mapping[str, int]]] = []
    learning = Learning(
        book, budget_bytes=1 << 30, learn=lambda *what: told.append(what), sizes=dict
    )
    assert [(learning.choose(), dict.fromkeys("abcd", USUAL_BYTES))] == told
    assert max(range(241), key=lambda minute: told[0][0].later[minute]) == 10
