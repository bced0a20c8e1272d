"""The real parts of a scenario: broker, gateway with Ray, link, and an agent on a slow device."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from planner.links import Link
from protos.topics import Topics
from testbed.broker import Broker
from testbed.control import LinkControl
from testbed.device import Device
from testbed.errors import ProcessDied
from testbed.models import RealModel
from testbed.processes import READY_LIMIT_S, Child, Processes

Say = Callable[[str], None]

DEVICE = "gate-01"
SERVE_LIMIT_S = 90.0
AGENT_LIMIT_S = 60.0
PROFILE_LIMIT_S = 120.0
STOP_LIMIT_S = 20.0
DEADLINE_S = 5.0


def isthmus(*words: str | Path) -> list[str]:
    """The command line of one of our own commands, in this very Python."""
    return [sys.executable, "-m", "isthmus", *(str(word) for word in words)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A real model with its steps, under the name by which it is served."""

    name: str
    real: RealModel
    steps: Path

    @property
    def arguments(self) -> list[str]:
        """What every planner command takes."""
        dims = [word for k, v in self.real.dims.items() for word in ("--dim", f"{k}={v}")]
        return [os.fspath(self.real.path), "--steps", os.fspath(self.steps), *dims]


class Stage:
    """Starts the parts as processes of their own, each as a user would start it.

    Args:
        processes: who starts and ends them; its folder takes all files.
        published: the model that is served and run.
        link: what lies between device and gateway.
        device: the emulated device; the agent runs in it.
        mqtt_url: a broker that is there already, or None.
        say: told what is being done.
    """

    def __init__(
        self,
        processes: Processes,
        published: Published,
        link: Link,
        device: Device,
        *,
        mqtt_url: str | None,
        say: Say,
    ) -> None:
        self.processes = processes
        self.published = published
        self.link = link
        self.device = device
        self.topics = Topics(device=DEVICE)
        self.broker = Broker(processes, url=mqtt_url)
        self._say = say
        self._gateway = ""
        # Sockets lie in it, and a socket's path may have a hundred letters at most.
        self._runtime = tempfile.TemporaryDirectory(prefix="isthmus-")
        self._children: list[Child] = []
        self._control = processes.folder / "link.sock"

    def __enter__(self) -> Self:
        self.broker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything, the newest first; Ray takes some seconds to do so cleanly."""
        self._say("stopping everything")
        for child in reversed(self._children):
            child.stop(STOP_LIMIT_S)
        self.broker.stop()
        self._runtime.cleanup()

    @property
    def folder(self) -> Path:
        return self.processes.folder

    @property
    def control(self) -> LinkControl:
        """Changes the link while it runs."""
        return LinkControl(self._control)

    def run(self, name: str, argv: Sequence[str], limit_s: float) -> None:
        """Run one command to its end.

        Raises:
            ProcessDied: it failed or outlasted *limit_s*; the message holds its last line.
        """
        child = self.processes.start(name, argv)
        try:
            code = child.wait(limit_s)
        except TimeoutError as error:
            child.stop()
            raise ProcessDied(str(error)) from error
        if code:
            raise ProcessDied(f"{name} failed: {child.last_line()}")

    def profile(self) -> Path:
        """Profile the model on this machine, at full speed.

        The device's profile is this one, scaled: inside the emulator up to 4 ms after an idle
        moment run unslowed, so that single ops measured there are wrong.
        """
        self._say("profiling the model on this machine")
        path = self.folder / "profile.json"
        words: list[str | Path] = [
            *self.published.arguments,
            "--sample",
            self.folder / "sample.jpg",
            "-o",
            path,
        ]
        self.run("profile", isthmus("profile", *words), PROFILE_LIMIT_S)
        return path

    def start_cloud(self) -> None:
        """Publish the model and start the gateway."""
        self._say("publishing the model, starting gateway and Ray")
        registry = self.folder / "registry"
        words: list[str | Path] = [
            *self.published.arguments,
            "--name",
            self.published.name,
            "--root",
            registry,
        ]
        self.run("push", isthmus("registry", "push", *words), PROFILE_LIMIT_S)
        facts = self._start(
            "serve",
            isthmus("serve", "--listen", "127.0.0.1:0", "--registry", registry),
            environ={"ISTHMUS_SERVE_RUNTIME_DIR": self._runtime.name},
            limit_s=SERVE_LIMIT_S,
        )
        self._gateway = str(facts["address"])

    def start_link(self) -> str:
        """Put the link in front of the gateway; returns the address that the device dials."""
        words = ["testbed", "link", "--listen", "127.0.0.1:0", "--to", self._gateway]
        link = self.link
        figures = f"{link.up_bps * 8 / 1e6:.6g}Mbps,{link.rtt_s * 1e3:.6g}ms"
        shown = f"{link.trace},{link.rtt_s * 1e3:.6g}ms" if link.trace else figures
        facts = self._start("link", isthmus(*words, "--link", shown, "--control", self._control))
        return str(facts["address"])

    def start_agent(self, address: str, plan: Path) -> None:
        """Start the agent, and slow it down once it is up: a device that has been switched on."""
        config = self.folder / "agent.toml"
        config.write_text(self._agent_toml(address, plan))
        facts = self._start(
            "agent", isthmus("edge", "run", "--config", config), limit_s=AGENT_LIMIT_S
        )
        self.device.attach(int(facts["pid"]))

    def _start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        limit_s: float = READY_LIMIT_S,
    ) -> dict[str, Any]:
        child, facts = self.processes.start_ready(name, argv, environ=environ, limit_s=limit_s)
        self._children.append(child)
        return facts

    def _agent_toml(self, address: str, plan: Path) -> str:
        model = self.published
        dims = ", ".join(f"{json.dumps(k)} = {v}" for k, v in model.real.dims.items())
        lines: Mapping[str, Any] = {
            "device": DEVICE,
            "state_dir": os.fspath(self.folder / "agent"),
            "deadline_s": DEADLINE_S,
        }
        head = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
        return (
            f"{head}\n[mqtt]\nurl = {json.dumps(self.broker.url)}\n"
            f"\n[cloud]\naddress = {json.dumps(address)}\n"
            f'\n[[models]]\nname = {json.dumps(model.name)}\nversion = "1"\n'
            f"path = {json.dumps(os.fspath(model.real.path))}\n"
            f"steps = {json.dumps(os.fspath(model.steps))}\n"
            f"dims = {{ {dims} }}\n"
            f"plan = {json.dumps(os.fspath(plan))}\n"
        )
