"""The life of a forked process: it listens, waits for its function, confines itself and serves."""

import contextlib
import importlib
import os
import socket
import sys
import threading
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from cloud_fn.functions import prctl
from cloud_fn.functions.confinement import Cell, Confinement
from cloud_fn.functions.listener import Listener, listening
from cloud_fn.functions.spec import Function
from protos.tensors import Buffer

if TYPE_CHECKING:  # the host, which only names what a child will run, loads no models
    from cloud_fn.functions.instance import Executed

ENGINE = "cloud_fn.functions.instance:Instance"
"""The :class:`Engine` of published models."""


class Engine(Protocol):
    """What an instance is made of; it may also be able to ``warm`` a cut."""

    def __init__(self, function: Function) -> None:
        """Take what to run."""

    def execute(self, data: Buffer) -> "Executed":
        """Answer one encoded request."""


class Nest(msgspec.Struct, frozen=True, kw_only=True):
    """Where a forked process lives, and what its host says of all of them.

    ``server`` forked it and only ``gateway`` may talk to it; for ``readable`` and ``engine`` see
    :class:`cloud_fn.functions.host_settings.HostSettings`.
    """

    home: str
    socket: str
    server: int
    gateway: int
    readable: tuple[str, ...] = ()
    engine: str = ENGINE


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a spare is to become."""

    function: msgspec.Raw
    confinement: Confinement


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A spare's answer to its order: it serves, or it cannot because of *error*."""

    confined: bool = True
    error: str | None = None


def run(nest: Nest, control: Connection, output: Connection) -> None:
    """Be a spare until an order comes, then an instance until the host is gone."""
    _settle(nest, output)
    sock = listening(Path(nest.socket))
    cell = Cell(nest.home, readable=nest.readable)
    module, _, name = nest.engine.partition(":")
    engine: type[Engine] = getattr(importlib.import_module(module), name)
    _rehearse()
    with contextlib.suppress(EOFError, OSError):
        order = msgspec.json.decode(control.recv_bytes(), type=Order)
        made = _become(order, engine, cell, sock, peer=nest.gateway)
        control.send_bytes(msgspec.json.encode(made))
        control.recv_bytes()
    os._exit(0)  # nothing that a function left running may hold this up


def _settle(nest: Nest, output: Connection) -> None:
    """Stand alone: own session, name and folder, and no file of the fork server's."""
    prctl.die_with_parent()
    if os.getppid() != nest.server:
        os._exit(0)  # it ended before it could be noticed
    os.setsid()
    prctl.name_process("isthmus-spare")
    _let_go()
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    output.close()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.chdir(nest.home)
    os.environ.update(HOME=nest.home, TMPDIR=nest.home, PWD=nest.home)


def _let_go() -> None:
    """Close what keeps Python's fork server and its tracker alive, once their host is gone."""
    server: Any = forkserver._forkserver  # noqa: SLF001
    tracker: Any = resource_tracker._resource_tracker  # noqa: SLF001
    for fd in (server._forkserver_alive_fd, tracker._fd):  # noqa: SLF001
        os.close(fd)
    # A function that uses multiprocessing starts its own.
    server._forkserver_alive_fd = server._forkserver_address = tracker._fd = None  # noqa: SLF001


def _rehearse() -> None:
    """Do once what an order will need, so that its pages are this process's own by then.

    With the cell that is made ahead, too, a start takes 6 ms, else 17 (medians of 20, 2 cores that
    were busy, 2026-11).
    """
    function = msgspec.json.encode(Function(model="", version=1, model_path=""))
    order = Order(function=msgspec.Raw(function), confinement=Confinement())
    order = msgspec.json.decode(msgspec.json.encode(order), type=Order)
    msgspec.json.decode(order.function, type=Function)
    msgspec.json.encode(Told())
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def _become(
    order: Order, engine: "type[Engine]", cell: Cell, sock: socket.socket, *, peer: int
) -> Told:
    try:
        prctl.name_process("isthmus-inst")
        function = msgspec.json.decode(order.function, type=Function)
        os.environ["OMP_NUM_THREADS"] = str(function.threads)
        os.environ.update(order.confinement.environment)
        files = [path for path in (function.model_path, function.steps_path) if path is not None]
        readable = {str(Path(path).resolve().parent) for path in files}
        readable |= {path for path in (function.handlers_dir,) if path is not None}
        writable = {path for path in (function.cache_path,) if path is not None}
        confined = cell.lock(order.confinement, readable=readable, writable=writable)
        made = engine(function)
        Listener(sock, made.execute, peer=peer, warm=getattr(made, "warm", None)).start()
    except Exception as error:  # noqa: BLE001  whoever waits for the instance is told
        return Told(error=" ".join(f"{type(error).__name__}: {error}".split())[:300])
    return Told(confined=confined)
