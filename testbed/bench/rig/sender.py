"""Sending while the device works on: each message when a slower machine would have it ready.

A process that waits between two short stretches of work, as a slower machine would take longer over
each, comes back to caches that are others' by then: the CPU time of encoding a slice of 300 kB rose
from 0.4 to 1.0 ms after 50 ms of sleep (2026-11-24), and at a tenth that is 6 ms a message which no
slower machine takes. So the device makes a request's messages in one stretch, as it makes one that
is sent whole, and a thread holds each back until it is due: at the beginning and all CPU time spent
on the request by then, by maker and sender, over the fraction.
"""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protos.errors import WireError
from protos.frames import send_frame


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """``made_s``: the maker's own CPU seconds on the request until it was there."""

    made_s: float
    header: Mapping[str, Any]
    body: bytes


class Sender:
    """Writes the messages of one request after the other to the connected *sock*."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._frames: queue.Queue[_Frame | None] = queue.Queue()  # of one request
        self._error: Exception | None = None
        self._fraction = 1.0
        self._began_s = self._began_cpu_s = self._spent_s = self._due_s = 0.0
        self._thread = threading.Thread(target=self._run, name="device.sender", daemon=True)
        self._thread.start()

    def begin(self, fraction: float) -> None:
        """Begin a request of the caller's, on a machine of *fraction* of this core."""
        self._fraction = fraction
        self._spent_s = 0.0
        self._began_s, self._began_cpu_s = time.perf_counter(), time.thread_time()

    def send(self, header: Mapping[str, Any], body: bytes) -> None:
        """Have the next message sent once it is due; returns at once."""
        made_s = time.thread_time() - self._began_cpu_s
        self._frames.put(_Frame(made_s=made_s, header=header, body=body))

    def wait(self) -> float:
        """Wait until all is sent; when the last message was due, as ``perf_counter`` counts.

        Raises:
            WireError: a message is too large.
            OSError: the connection failed, or its timeout passed.
        """
        self._frames.join()
        if self._error is not None:
            raise self._error
        return self._due_s

    def close(self) -> None:
        """End; the socket must not be in use any more."""
        self._frames.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (frame := self._frames.get()) is not None:
            try:
                if self._error is None:
                    self._send(frame)
            except (OSError, WireError) as error:
                self._error = error
                with contextlib.suppress(OSError):  # whoever waits for the answer learns of it
                    self._sock.shutdown(socket.SHUT_RDWR)
            finally:
                self._frames.task_done()

    def _send(self, frame: _Frame) -> None:
        self._due_s = time.perf_counter()
        if self._fraction < 1:
            due_s = self._began_s + (frame.made_s + self._spent_s) / self._fraction
            time.sleep(max(due_s - self._due_s, 0.0))
            self._due_s = max(due_s, self._due_s)
        spent_s = time.thread_time()
        send_frame(self._sock, frame.header, frame.body)
        self._spent_s += time.thread_time() - spent_s
