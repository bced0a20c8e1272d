"""The MQTT broker: a configured one, else mosquitto as a supervised child on loopback."""

import contextlib
import importlib.util
import logging
import shutil
import socket
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from testbed.errors import NotInstalled, ProcessDied, TestbedError
from testbed.processes import Child, Processes

log = logging.getLogger(__name__)

READY_LIMIT_S = 10.0
ANSWER_LIMIT_S = 2.0
LOCAL_ANSWER_LIMIT_S = 0.5
PORT_TRIES = 5
MAX_RESTARTS = 5
FIRST_BACKOFF_S = 0.2
STEADY_S = 30.0
"""A broker that ran this long before it died gets its full number of restarts again."""

MAX_PACKET_BYTES = 16 * 1024 * 1024
"""Said to clients in CONNACK. Without it mosquitto 2.0 takes 256 MB and 2.1 refuses over 2 MB."""

INSTALL = "apt-get install mosquitto"

_CONNECT = bytes.fromhex("100c 0004 4d515454 04 02 0005 0000")
"""MQTT 3.1.1 CONNECT, clean session, keep-alive 5 s, no client id: the least a broker answers."""


def mosquitto_path() -> Path | None:
    """Where mosquitto is; Debian puts it in a folder that is not in every user's PATH."""
    found = shutil.which("mosquitto")
    for path in (found, "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"):
        if path and Path(path).is_file():
            return Path(path)
    return None


def has_amqtt() -> bool:
    """Whether the pure Python broker can be imported (it is not)."""
    return importlib.util.find_spec("amqtt") is not None


def mosquitto_config(port: int) -> str:
    """A broker for this machine only, which keeps nothing on disk and publishes no ``$SYS``."""
    return f"""\
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
persistence false
sys_interval 0
max_packet_size {MAX_PACKET_BYTES}
log_dest stderr
log_type error
log_type warning
log_type notice
"""


def amqtt_config(port: int) -> str:
    """As JSON, which is YAML; amqtt's own default listens on every interface."""
    return f"""\
{{"listeners": {{"default": {{"type": "tcp", "bind": "127.0.0.1:{port}"}}}},
 "plugins": {{"amqtt.plugins.authentication.AnonymousAuthPlugin": {{"allow_anonymous": true}}}}}}
"""


class Broker:
    """A broker to use; as a context manager it is there inside the block.

    Args:
        processes: who starts and ends the child.
        url: a broker that is there already (``mqtt://host:port``); it wins, and nothing is started.
    """

    def __init__(self, processes: Processes, *, url: str | None = None) -> None:
        self._processes = processes
        self._configured = url
        self._url = ""
        self._how = ""
        self._child: Child | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self.restarts = 0

    @property
    def url(self) -> str:
        """``mqtt://127.0.0.1:41883``."""
        return self._url

    @property
    def how(self) -> str:
        """One sentence on which broker this is."""
        return self._how

    @property
    def pid(self) -> int | None:
        """The child's, None for a configured broker."""
        return self._child.pid if self._child else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Have a broker that answers.

        Raises:
            TestbedError: the configured broker does not answer.
            NotInstalled: there is none to start; the message holds the command that installs it.
            ProcessDied: it was started and did not come up.
        """
        if self._configured is not None:
            host, port = _address(self._configured)
            if not answers(host, port, tls=self._configured.startswith("mqtts:")):
                raise TestbedError(
                    f"the broker at {self._configured} does not answer: start it, or leave the "
                    "address out to have one started here"
                )
            self._url, self._how = self._configured, f"the configured broker {self._configured}"
            return
        argv, config, name = _program(self._processes.folder)
        for attempt in range(1, PORT_TRIES + 1):
            port = _free_port()
            config.write_text(mosquitto_config(port) if name == "mosquitto" else amqtt_config(port))
            try:
                self._launch(argv, port)
                break
            except ProcessDied as error:
                # Between our look and its bind somebody else may have taken the port.
                if attempt == PORT_TRIES or "in use" not in str(error).lower():
                    raise
        self._url = f"mqtt://127.0.0.1:{port}"
        self._how = (
            f"mosquitto ({argv[0]}) on port {port}, started here"
            if name == "mosquitto"
            else f"amqtt on port {port}, started here for want of mosquitto: MQTT 3.1.1 only and "
            f"slow ({INSTALL} gives a better one)"
        )
        log.info("broker up: url=%s how=%s", self._url, self._how)
        self._watcher = threading.Thread(
            target=self._watch, args=(argv, port), name="broker.watch", daemon=True
        )
        self._watcher.start()

    def stop(self) -> None:
        """End the child, if there is one."""
        self._stopping.set()
        if self._watcher is not None:
            if self._child is not None:
                self._child.stop()
            self._watcher.join()
        if self._child is not None:  # a restart may have slipped in between
            self._child.stop()

    def _launch(self, argv: list[str], port: int) -> None:
        self._child = child = self._processes.start("broker", argv)
        try:
            child.wait_for(
                lambda: answers("127.0.0.1", port, limit_s=LOCAL_ANSWER_LIMIT_S) or None,
                READY_LIMIT_S,
            )
        except ProcessDied:
            child.stop()
            raise

    def _watch(self, argv: list[str], port: int) -> None:
        """Start it again on the same port when it dies, later each time, and not for ever."""
        left, backoff_s = MAX_RESTARTS, FIRST_BACKOFF_S
        while not self._stopping.is_set():
            assert self._child is not None
            try:
                code = self._child.wait(STEADY_S)
            except TimeoutError:
                left, backoff_s = MAX_RESTARTS, FIRST_BACKOFF_S
                continue
            if self._stopping.is_set():
                return
            if left == 0:
                log.error("broker given up: exit=%d restarts=%d", code, self.restarts)
                return
            log.warning("broker died: exit=%d restart_in_s=%g", code, backoff_s)
            if self._stopping.wait(backoff_s):
                return
            left, backoff_s = left - 1, backoff_s * 2
            self.restarts += 1
            with contextlib.suppress(ProcessDied):
                self._launch(argv, port)


def answers(host: str, port: int, *, tls: bool = False, limit_s: float = ANSWER_LIMIT_S) -> bool:
    """Whether an MQTT broker answers there, and not just anything; with *tls*, whether anything."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), limit_s) as sock:
        if tls:
            return True
        sock.sendall(_CONNECT)
        return sock.recv(4)[:1] == b"\x20"  # CONNACK, whatever it says
    return False


def _program(folder: Path) -> tuple[list[str], Path, str]:
    config = folder / "broker.conf"
    folder.mkdir(parents=True, exist_ok=True)
    if (path := mosquitto_path()) is not None:
        return [str(path), "-c", str(config)], config, "mosquitto"
    if has_amqtt():
        argv = [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(config)]
        return argv, config, "amqtt"
    raise NotInstalled(
        f"there is no MQTT broker: run `{INSTALL}`, or give the address of one you have"
    )


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("mqtt", "mqtts") or not host:
        raise TestbedError(f"{url!r} is no broker's address: write it as mqtt://HOST:PORT")
    return host, port or (8883 if parts.scheme == "mqtts" else 1883)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
