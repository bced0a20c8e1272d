"""What is on disk before it is acknowledged, what a crash leaves, and how full it may get."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from edge_agent import journal
from edge_agent.errors import OutboxError, OutboxFull
from edge_agent.journal import Counts
from edge_agent.outbox import ENTRY_BYTES, WINDOW_S, Known, Outbox, Pending
from edge_agent.packets import Message, Publication

REQUEST = Message(
    topic="isthmus/v1/d/cam-01/infer/m/req",
    payload=b"x" * 1000,
    content_type="image/jpeg",
    response_topic="isthmus/v1/c/app/inbox/cam-01",
    correlation=b"\x00\xff",
    user=(("timeout-ms", "5"),),
)
ANSWER = Publication(
    topic="t", payload=b"y" * 100, correlation=b"\x00\xff", user=(("status", "200"),)
)


class Clock:
    """A wall clock that is set."""

    def __init__(self) -> None:
        self.unix_s = 1e9

    def __call__(self) -> float:
        return self.unix_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("edge_agent.journal.time.time", clock)
    return clock


def an_outbox(path: Path, clock: Clock, *, max_bytes: int = 1 << 20) -> Outbox:
    return Outbox(path / "outbox.sqlite", max_bytes=max_bytes, now=clock)


async def accept(outbox: Outbox, key: str, message: Message = REQUEST) -> None:
    """Accept, and wait until it is on disk."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def written(error: Exception | None) -> None:
        done.set_exception(error) if error else done.set_result(None)

    outbox.accept(key, message, written)
    await done


def test_what_was_accepted_and_not_answered_is_there_after_a_crash(
    tmp_path: Path, clock: Clock
) -> None:
    async def before() -> None:
        outbox = an_outbox(tmp_path, clock)
        assert await outbox.open() == ()
        await accept(outbox, "a")
        await accept(outbox, "b")
        outbox.settle("a", ANSWER)
        await accept(outbox, "c")  # the answer of a is written with it; then the process dies

    async def after() -> tuple[Pending, ...]:
        outbox = an_outbox(tmp_path, clock)
        pending = await outbox.open()
        assert [outbox.known(key) for key in "abc"] == [
            Known.ANSWERED,
            Known.PENDING,
            Known.PENDING,
        ]
        assert await outbox.answer("a") == ANSWER
        await outbox.close()
        return pending

    asyncio.run(before())
    clock.unix_s += 7.0
    assert asyncio.run(after()) == (
        Pending(key="b", message=REQUEST, age_s=7.0),
        Pending(key="c", message=REQUEST, age_s=7.0),
    )


def test_a_request_that_no_agent_survives_is_known_by_its_starts(
    tmp_path: Path, clock: Clock
) -> None:
    async def begin() -> None:
        outbox = an_outbox(tmp_path, clock)
        await outbox.open()
        await accept(outbox, "a")

    async def again() -> list[int]:
        return [pending.starts for pending in await an_outbox(tmp_path, clock).open()]

    asyncio.run(begin())
    assert [asyncio.run(again()) for _ in range(3)] == [[1], [2], [3]]


def test_an_answer_is_on_disk_soon_though_no_request_follows(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.outbox.SETTLE_WITHIN_S", 0.0)

    async def before() -> None:
        outbox = an_outbox(tmp_path, clock)
        await outbox.open()
        await accept(outbox, "a")
        outbox.settle("a", ANSWER)
        await asyncio.sleep(0)  # the timer is due in the loop's next round
        await asyncio.sleep(0)
        await outbox._disk.call(lambda: None)  # what was written before is on disk now

    async def after() -> tuple[Pending, ...]:
        return await an_outbox(tmp_path, clock).open()

    asyncio.run(before())
    assert asyncio.run(after()) == ()


def test_an_answer_is_known_at_once_and_for_five_minutes(tmp_path: Path, clock: Clock) -> None:
    async def scenario() -> None:
        outbox = an_outbox(tmp_path, clock)
        await outbox.open()
        await accept(outbox, "a")
        outbox.settle("a", ANSWER)
        assert (outbox.known("a"), await outbox.answer("a")) == (Known.ANSWERED, ANSWER)
        clock.unix_s += WINDOW_S
        assert outbox.known("a") is Known.ANSWERED
        clock.unix_s += 1.0
        assert outbox.known("a") is Known.NOTHING
        await accept(outbox, "b")  # takes the old answer off the disk
        assert await outbox.answer("a") is None
        await outbox.close()

    asyncio.run(scenario())


def test_answers_older_than_that_are_not_read_back(tmp_path: Path, clock: Clock) -> None:
    async def run() -> Known:
        outbox = an_outbox(tmp_path, clock)
        await outbox.open()
        known = outbox.known("a")
        if known is Known.NOTHING:
            await accept(outbox, "a")
            outbox.settle("a", ANSWER)
        await outbox.close()
        return known

    assert asyncio.run(run()) is Known.NOTHING
    assert asyncio.run(run()) is Known.ANSWERED
    clock.unix_s += WINDOW_S + 1.0
    assert asyncio.run(run()) is Known.NOTHING


def test_a_full_outbox_refuses_and_says_how_full_it_is(tmp_path: Path, clock: Clock) -> None:
    async def scenario() -> None:
        size = len(REQUEST.payload) + ENTRY_BYTES
        outbox = an_outbox(tmp_path, clock, max_bytes=2 * size)
        await outbox.open()
        await accept(outbox, "a")
        await accept(outbox, "b")
        with pytest.raises(OutboxFull, match=f"holds {2 * size} bytes .* may hold {2 * size}"):
            await accept(outbox, "c")
        assert outbox.known("c") is Known.NOTHING
        await outbox.close()

    asyncio.run(scenario())


def test_the_oldest_answers_make_room_for_new_requests(tmp_path: Path, clock: Clock) -> None:
    async def scenario() -> None:
        requests, answers = 2 * len(REQUEST.payload), 2 * len(ANSWER.payload)
        outbox = an_outbox(tmp_path, clock, max_bytes=requests + answers + 4 * ENTRY_BYTES)
        await outbox.open()
        for key in "abc":
            await accept(outbox, key)
            outbox.settle(key, ANSWER)
        assert [outbox.known(key) for key in "abc"] == [
            Known.ANSWERED,
            Known.ANSWERED,
            Known.ANSWERED,
        ]
        await accept(outbox, "d")
        await accept(outbox, "e")
        assert [outbox.known(key) for key in "abcde"] == [
            Known.NOTHING,
            Known.ANSWERED,
            Known.ANSWERED,
            Known.PENDING,
            Known.PENDING,
        ]
        await outbox.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("damage", [b"not a database at all" * 500, b""])
def test_a_corrupt_file_is_moved_aside_and_the_agent_goes_on(
    tmp_path: Path, clock: Clock, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "outbox.sqlite"
    path.write_bytes(damage)

    async def scenario() -> None:
        outbox = an_outbox(tmp_path, clock)
        assert await outbox.open() == ()
        await accept(outbox, "a")
        await outbox.close()

    asyncio.run(scenario())
    assert journal.count(path) == Counts(pending=1, settled=0, nbytes=1000)
    aside = tmp_path / "outbox.sqlite.corrupt"
    if damage:
        assert aside.read_bytes() == damage
        assert f"moved_to={aside}" in caplog.text
    else:
        assert not aside.exists()  # an empty file is a new database to SQLite, and to us


def test_pages_that_are_damaged_later_are_found_at_the_next_start(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "outbox.sqlite"

    async def fill() -> None:
        outbox = an_outbox(tmp_path, clock)
        await outbox.open()
        for number in range(20):
            await accept(outbox, str(number))
        await outbox.close()

    asyncio.run(fill())
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xee" * (len(whole) - 4096))

    async def start() -> tuple[Pending, ...]:
        outbox = an_outbox(tmp_path, clock)
        pending = await outbox.open()
        await outbox.close()
        return pending

    assert asyncio.run(start()) == ()
    assert (tmp_path / "outbox.sqlite.corrupt").exists()


def test_a_file_of_another_version_is_moved_aside_too(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "outbox.sqlite"
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()

    async def start() -> None:
        outbox = an_outbox(tmp_path, clock)
        await outbox.open()
        await outbox.close()

    asyncio.run(start())
    assert (tmp_path / "outbox.sqlite.corrupt").exists()


def test_a_folder_that_is_not_there_is_an_error_in_one_sentence(
    tmp_path: Path, clock: Clock
) -> None:
    async def start() -> None:
        outbox = an_outbox(tmp_path / "nowhere", clock)
        try:
            await outbox.open()
        finally:
            await outbox.close()

    with pytest.raises(OutboxError, match="cannot be opened"):
        asyncio.run(start())


def test_an_entry_that_is_dropped_is_gone(tmp_path: Path, clock: Clock) -> None:
    async def scenario() -> None:
        outbox = an_outbox(tmp_path, clock)
        await outbox.open()
        await accept(outbox, "a")
        await outbox.drop("a")
        assert outbox.known("a") is Known.NOTHING
        await outbox.close()

    asyncio.run(scenario())
    assert journal.count(tmp_path / "outbox.sqlite") == Counts(pending=0, settled=0, nbytes=0)


def test_where_there_is_no_outbox_nothing_is_counted(tmp_path: Path) -> None:
    assert journal.count(tmp_path / "outbox.sqlite") is None
