"""Running an agent as a process: lock, signals, readiness, and errors as one sentence."""

import asyncio
import gc
import json
import logging
import os
import sys
from pathlib import Path

from edge_agent.agent import Agent, Parts
from edge_agent.compose import compose
from edge_agent.config import AgentConfig
from edge_agent.errors import AgentError
from edge_agent.lock import locked
from edge_agent.signals import stopping
from protos.errors import IsthmusError

log = logging.getLogger(__name__)


def serve(config: AgentConfig, ready_file: Path | None) -> int:
    """Run an agent until it is told to stop.

    Returns:
        0 after an orderly stop, 1 after one that was forced.

    Raises:
        IsthmusError: it can't start, or can't go on.
    """
    state_dir = Path(config.state_dir)
    with locked(state_dir):
        parts = compose(config, state_dir)
        _settle_down()
        try:
            return asyncio.run(_run(config, parts, ready_file))
        except BaseExceptionGroup as group:
            raise _first_cause(group) from group


async def _run(config: AgentConfig, parts: Parts, ready_file: Path | None) -> int:
    agent = Agent(parts)
    with stopping() as stop:
        try:
            await agent.run(stop, lambda: _say_ready(config, ready_file))
        except asyncio.CancelledError:
            log.warning("stopped at once: what was accepted is kept for the next start")
            return 1
    return 0


def _settle_down() -> None:
    """Have the collector skip what was made for good: a full pass takes 20 ms (2026-11)."""
    gc.collect()
    gc.freeze()


def _say_ready(config: AgentConfig, ready_file: Path | None) -> None:
    url = config.mqtt.url
    if ready_file is not None:
        facts = {"pid": os.getpid(), "address": url, "device": config.device}
        draft = ready_file.with_name(f".{ready_file.name}.{os.getpid()}")
        draft.write_text(json.dumps(facts) + "\n")
        draft.replace(ready_file)
    sys.stderr.write(f"isthmus edge: ready as {config.device} on {url}\n")
    sys.stderr.flush()


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Pick what to tell: one of ours if there is one, else the first in words."""
    leaves = list(_leaves(group))
    for leaf in leaves:
        if isinstance(leaf, IsthmusError):
            return leaf
    for leaf in leaves:
        log.debug("agent failed", exc_info=leaf)
    return AgentError(f"the agent had to stop: {leaves[0]!r}; run with -v to see where")


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found
