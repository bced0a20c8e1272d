"""The life of a forked process: it listens, waits for its function, confines itself and serves."""

import contextlib
import importlib
import os
import socket
import sys
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from cloud_fn.functions import prctl
from cloud_fn.functions.confinement import Confinement, confine
from cloud_fn.functions.listener import Listener, Warm, listening
from cloud_fn.functions.spec import Function

ENGINE = "cloud_fn.functions.instance:Instance"
"""What an instance is made of: called with a :class:`Function`, gives something to ``execute``."""


class Nest(msgspec.Struct, frozen=True, kw_only=True):
    """Where a forked process lives: ``server`` forked it, only ``gateway`` may talk to it."""

    home: str
    socket: str
    server: int
    gateway: int


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a spare is to become."""

    function: msgspec.Raw
    confinement: Confinement
    readable: tuple[str, ...] = ()
    engine: str = ENGINE


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A spare's answer to its order: it serves, or it cannot because of *error*."""

    confined: bool = True
    error: str | None = None


def run(nest: Nest, control: Connection, output: Connection) -> None:
    """Be a spare until an order comes, then an instance until the host is gone."""
    _settle(nest, output)
    sock = listening(Path(nest.socket))
    with contextlib.suppress(EOFError, OSError):
        order = msgspec.json.decode(control.recv_bytes(), type=Order)
        control.send_bytes(msgspec.json.encode(_become(order, nest, sock)))
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


def _become(order: Order, nest: Nest, sock: socket.socket) -> Told:
    try:
        prctl.name_process("isthmus-inst")
        function = msgspec.json.decode(order.function, type=Function)
        os.environ["OMP_NUM_THREADS"] = str(function.threads)
        os.environ.update(order.confinement.environment)
        files = [path for path in (function.model_path, function.steps_path) if path is not None]
        beside = {str(Path(path).resolve().parent) for path in files}
        if function.handlers_dir is not None:
            beside.add(function.handlers_dir)
        writable = (nest.home, *order.confinement.writable_paths)
        if function.cache_path is not None:
            writable += (function.cache_path,)
        confined = confine(
            order.confinement, readable=(*order.readable, *beside), writable=writable
        )
        module, _, name = order.engine.partition(":")
        engine = getattr(importlib.import_module(module), name)(function)
        warm: Warm | None = getattr(engine, "warm", None)
        Listener(sock, engine.execute, peer=nest.gateway, warm=warm).start()
    except Exception as error:  # noqa: BLE001  whoever waits for the instance is told
        return Told(error=" ".join(f"{type(error).__name__}: {error}".split())[:300])
    return Told(confined=confined)
