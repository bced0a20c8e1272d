"""The link's control socket, with a real link behind it."""

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.links import NAMED
from testbed.conditions import Conditions
from testbed.control import Answer, LinkControl, obey, serve_control
from testbed.errors import TestbedError
from testbed.link import LinkEmulator, Stats

pytestmark = pytest.mark.integration


@contextlib.asynccontextmanager
async def a_controlled_link(path: Path) -> AsyncIterator[tuple[LinkEmulator, LinkControl]]:
    link = LinkEmulator(("127.0.0.1", 9), Conditions.of(NAMED["LTE"]))
    async with link, serve_control(link, path):
        yield link, LinkControl(path)


def test_another_process_can_change_the_link_and_read_its_stats(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_controlled_link(tmp_path / "c.sock") as (link, control):
            assert await asyncio.to_thread(control.stats) == Stats()
            await asyncio.to_thread(lambda: control.outage(on=True))
            assert link.conditions.outage
            await asyncio.to_thread(lambda: control.set("3G", rtt_s=0.3))
            assert link.conditions == Conditions(
                up=137_500.0, down=137_500.0, delay_s=0.15, outage=True
            )
            await asyncio.to_thread(lambda: control.outage(on=False))
            assert not link.conditions.outage
            await asyncio.to_thread(control.reset)

    asyncio.run(scenario())


def test_a_refused_command_is_an_error_for_the_caller_and_the_link_goes_on(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with a_controlled_link(tmp_path / "c.sock") as (link, control):
            with pytest.raises(TestbedError, match="'5G' is no link"):
                await asyncio.to_thread(lambda: control.set("5G"))
            assert link.conditions == Conditions.of(NAMED["LTE"])
            assert await asyncio.to_thread(control.stats) == Stats()

    asyncio.run(scenario())


def test_the_socket_is_for_this_user_only_and_goes_with_the_link(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"

    async def scenario() -> None:
        async with a_controlled_link(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    asyncio.run(scenario())
    assert not path.exists()


def test_a_link_that_is_not_there_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TestbedError, match=r"c\.sock does not answer \(.*\): is its process run"):
        LinkControl(tmp_path / "c.sock").stats()


def test_a_socket_that_cannot_be_made_is_said_in_one_sentence(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(TestbedError, match="cannot be made"):
            async with a_controlled_link(tmp_path / "none" / "c.sock"):
                pass
        with pytest.raises(TestbedError, match="give a short path"):
            async with a_controlled_link(tmp_path / ("x" * 120)):
                pass

    asyncio.run(scenario())


def test_a_line_that_never_ends_is_dropped_and_the_next_caller_is_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with a_controlled_link(tmp_path / "c.sock") as (_, control):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "c.sock")
            with contextlib.suppress(ConnectionError):
                writer.write(b"x" * 200_000)
                await writer.drain()
                assert await reader.read() == b""
            writer.close()
            assert await asyncio.to_thread(control.stats) == Stats()

    asyncio.run(scenario())


def test_any_line_is_obeyed_or_refused() -> None:
    async def scenario() -> None:
        async with LinkEmulator(("127.0.0.1", 9), Conditions.of(NAMED["LTE"])) as link:

            @given(
                st.binary(max_size=60)
                | st.sampled_from(
                    [
                        b'{"set": {"up_bps": 1e999}}',
                        b'{"set": {"up_bps": -1}}',
                        b'{"set": {"link": "\\u0000"}}',
                        b'{"sett": {}}',
                        b'{"outage": "yes"}',
                        b"[]",
                        b"\n",
                    ]
                )
            )
            def any_line(line: bytes) -> None:
                before = link.conditions
                answer = obey(link, line)
                assert isinstance(answer, Answer)
                assert answer.error is None or link.conditions == before

            any_line()

    asyncio.run(scenario())
