"""What the agent says about itself: status, info, reported, events."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import onnxruntime
import psutil

from edge_agent.packets import Publication
from protos.messages import Hardware, HeldModel, Info, MqttLimits, Runtime, Status, encode
from protos.topics import Topics

COMMANDS = ("ping",)
State = Literal["online", "degraded", "offline", "lost"]


def agent_version() -> str:
    """The installed distribution's version."""
    try:
        return version("isthmus")
    except PackageNotFoundError:
        return "0+source"


class Presence:
    """The retained messages of one run of the agent, which *boot* tells from the others."""

    def __init__(self, topics: Topics, boot: str) -> None:
        self._topics = topics
        self._boot = boot
        self._sequence = 0

    def will(self) -> Publication:
        """Make what the broker publishes when we are gone without a word."""
        return self._status("lost", 0)

    def status(self, *, degraded: bool) -> Publication:
        """Say that we are there."""
        self._sequence += 1
        return self._status("degraded" if degraded else "online", self._sequence)

    def offline(self) -> Publication:
        """Say goodbye."""
        self._sequence += 1
        return self._status("offline", self._sequence)

    def info(self, models: Sequence[HeldModel], *, v5: bool, max_payload_bytes: int) -> Publication:
        """Say what we are."""
        info = Info(
            device=self._topics.device,
            agent=agent_version(),
            hw=_hardware(),
            runtime=Runtime(
                onnxruntime=onnxruntime.__version__,
                eps=tuple(onnxruntime.get_available_providers()),
            ),
            models=tuple(models),
            mqtt=MqttLimits(v=5 if v5 else 4, max_payload=max_payload_bytes),
            cmds=COMMANDS,
        )
        return Publication(topic=self._topics.info, payload=encode(info), retain=True)

    def _status(self, state: State, sequence: int) -> Publication:
        status = Status(
            state=state,
            boot=self._boot,
            seq=sequence,
            ts=datetime.now(UTC),
            agent=agent_version(),
        )
        return Publication(topic=self._topics.status, payload=encode(status), retain=True)


def _hardware() -> Hardware:
    return Hardware(
        arch=platform.machine(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
        mem_mb=psutil.virtual_memory().total >> 20,
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
