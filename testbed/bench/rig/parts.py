"""The rig's processes, started and ended; and the orders that a bench gives them."""

import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from planner.links import Link
from testbed.bench.rig.orders import (
    Ask,
    Asked,
    Check,
    Checked,
    Load,
    Loaded,
    Share,
    Stream,
    Streamed,
    Way,
)
from testbed.bench.rig.wire import Orders, pack
from testbed.bench.subjects import Subject
from testbed.control import LinkControl
from testbed.device import ONE_THREAD, TICK_US, Device, last_core
from testbed.errors import TestbedError
from testbed.processes import Child, Processes

LOAD_LIMIT_S = 120.0
REQUEST_LIMIT_S = 90.0
MARGIN_S = 90.0
FAST = "1Gbps,1ms"
"""The link while pieces are loaded and checked."""


class Rig:
    """Device, link and cloud, as a context manager; one model at a time.

    Args:
        processes: who starts and ends them; logs go into its folder.
        fraction: of one core, the device's speed; 1 at most.
        quota: also hold the device to a CPU quota of that fraction once a model is loaded, as
            :class:`testbed.device.Device` does; :mod:`testbed.bench.rig.pace` says why not.
    """

    def __init__(self, processes: Processes, *, fraction: float, quota: bool = False) -> None:
        if not 0 < fraction <= 1:
            raise TestbedError(f"the rig's device is a fraction of a core, not {fraction:g}")
        self.fraction = fraction
        self._processes = processes
        # Sockets lie in it, and a socket's path may have a hundred letters at most.
        self._runtime = tempfile.TemporaryDirectory(prefix="isthmus-rig-")
        self._slow = Device(fraction) if quota else None
        self._device = Orders(self._socket("device"), "device")
        self._cloud = Orders(self._socket("cloud"), "cloud")
        self._children: list[Child] = []
        self._pid = 0
        self.how = f"paced to {fraction:g} of a core"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def control(self) -> LinkControl:
        """Changes the link."""
        return LinkControl(self._socket("link"))

    def load(self, subject: Subject, ways: Sequence[Way]) -> Mapping[str, float | None]:
        """Load *ways* of *subject* on both sides at full speed, check them, and slow the device.

        Returns:
            By way, the largest difference of its answers from the whole model's; None where a text
            or a shape differs.

        Raises:
            TestbedError: a part failed; the message says which and why.
        """
        if self._slow is not None:
            self._slow.stop()
        self.control.set(FAST)
        tensors, body = pack(subject.sample, {})
        order = Load(
            model=os.fspath(subject.path),
            steps=None if subject.steps is None else os.fspath(subject.steps),
            dims=dict(subject.dims),
            ways=tuple(ways),
            tensors=tensors,
        )
        self._cloud.give(order, Loaded, limit_s=LOAD_LIMIT_S)
        self._device.give(order, Loaded, body=body, limit_s=LOAD_LIMIT_S)
        checked = self._device.give(Check(), Checked, limit_s=LOAD_LIMIT_S)
        if self._slow is not None:
            self._slow.start()
            self._slow.attach(self._pid)
            self.how = self._slow.how
        return checked.difference

    def over(self, link: Link) -> None:
        """Let the link be like *link* from now on; a trace begins anew."""
        self.control.set(FAST)  # the same trace set twice would run on
        if link.trace is not None:
            self.control.set(f"{link.trace},{link.rtt_s * 1e3:.6g}ms")
        else:
            self.control.set(
                up_bps=link.up_bps,
                down_bps=link.down_bps,
                rtt_s=link.rtt_s,
                jitter_s=link.jitter_s,
            )

    def ask(self, way: str, count: int = 1, *, chunked: bool = False) -> Asked:
        """Answer the sample *count* times, one at a time; *chunked* in the way's chunks, if any.

        Raises:
            TestbedError: the device or the cloud could not answer.
        """
        # A quota may owe for a tick that ran over it: what is begun too soon pays for the last.
        rest_s = TICK_US / 1e6 / self.fraction if self._slow is not None else 0.0
        order = Ask(way=way, count=count, chunked=chunked, pace=self.fraction, rest_s=rest_s)
        return self._device.give(order, Asked, limit_s=REQUEST_LIMIT_S * count)

    def stream(
        self, shares: Sequence[Share], *, in_flight: int, fill: int, frames: int, limit_s: float
    ) -> Streamed:
        """Frames in flight, mixed by *shares*; see :class:`testbed.bench.rig.orders.Stream`.

        Raises:
            TestbedError: the device or the cloud could not answer.
        """
        order = Stream(
            shares=tuple(shares),
            in_flight=in_flight,
            fill=fill,
            frames=frames,
            limit_s=limit_s,
            pace=1.0 if self._slow is not None and self._slow.slowed else self.fraction,
        )
        report = self._device.give(order, Streamed, limit_s=limit_s + MARGIN_S)
        self.control.reset()  # frames that nobody waits for any more
        return report

    def _socket(self, name: str) -> Path:
        return Path(self._runtime.name) / f"{name}.sock"

    def _start(self) -> None:
        module = [sys.executable, "-m", "testbed.bench.rig"]
        words: list[str | Path] = [*module, "cloud", "--orders", self._socket("cloud")]
        if (core := _other_core()) is not None:
            words += ["--core", str(core)]
        cloud = self._part("cloud", words)
        link = self._part(
            "link",
            [
                *(sys.executable, "-m", "isthmus", "testbed", "link", "--link", FAST),
                *("--to", str(cloud["address"]), "--control", self._socket("link")),
            ],
        )
        words = [*module, "device", "--orders", self._socket("device")]
        if (core := last_core()) is not None:
            words += ["--core", str(core)]
        device = self._part("device", [*words, "--cloud", str(link["address"])])
        self._pid = int(str(device["pid"]))

    def _part(self, name: str, words: Sequence[str | Path]) -> Mapping[str, object]:
        child, facts = self._processes.start_ready(name, words, environ=ONE_THREAD)
        self._children.append(child)
        return facts

    def _stop(self) -> None:
        self._device.close()
        self._cloud.close()
        for child in reversed(self._children):
            child.stop()
        if self._slow is not None:
            self._slow.stop()
        self._runtime.cleanup()


def _other_core() -> int | None:
    """A core for the cloud that is not the device's; None where there is no other."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = os.sched_getaffinity(0)
    return min(cores) if len(cores) > 1 else None


def in_flight(fps: float, rtt_s: float) -> int:
    """Frames under way that keep every stage busy at *fps*.

    One each on the device, on the link and in the cloud, one waiting before each of the latter
    two, and those that are between (Little 1961: rate times time).
    """
    return 5 + math.ceil(fps * rtt_s)
