"""A door before a folder of sockets that the test itself listens at."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from cloud_fn.functions.far_door import Door
from cloud_fn.functions.listener import listening
from cloud_fn.functions.proving import fresh_secret
from cloud_fn.functions.reach import HOST, Cord, Far
from cloud_fn.runtime_dir import HostFolder

LIMIT_S = 20.0
LOOPBACK = "127.0.0.1"
INSTANCE = "0123abcd"


class OpenDoor:
    """Whatever comes through it meets *inside*, once for each connection."""

    def __init__(
        self,
        folder: Path,
        inside: Callable[[socket.socket], None],
        **changes: Any,  # noqa: ANN401  any of the door's
    ) -> None:
        self.files = HostFolder(folder / "cpu")
        self.files.take()
        self.secret = fresh_secret().encode()
        self.silent = threading.Event()
        given = {"silence_s": LIMIT_S, "silent": self.silent.set, **changes}
        self._inside = inside
        self._sockets = [
            listening(path) for path in (self.files.socket, self.files.path / f"{INSTANCE}.sock")
        ]
        self.threads = [
            threading.Thread(target=self._accept, args=(sock,), daemon=True)
            for sock in self._sockets
        ]
        self.door = Door(self.files, secret=self.secret, **given)
        self.cord = Cord()

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        self.port = self.door.open(LOOPBACK)
        return self

    def __exit__(self, *_: object) -> None:
        self.door.close()
        self.cord.cut()
        for sock in self._sockets:
            sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def far(self, to: str = HOST, **changes: Any) -> Far:  # noqa: ANN401  any of the address's
        given = {"host": LOOPBACK, "port": self.port, "secret": self.secret, "cord": self.cord}
        return Far(to=to, **{**given, **changes})

    def knock(self) -> socket.socket:
        """A connection of somebody who has yet to prove anything."""
        return socket.create_connection((LOOPBACK, self.port), LIMIT_S)

    def _accept(self, sock: socket.socket) -> None:
        while True:
            try:
                connection, _ = sock.accept()
            except OSError:
                return
            threading.Thread(target=self._meet, args=(connection,), daemon=True).start()

    def _meet(self, connection: socket.socket) -> None:
        with connection:
            self._inside(connection)
