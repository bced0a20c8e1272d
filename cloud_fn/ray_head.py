"""Whether the head of the Ray that this process is connected to is there.

Ray itself waits for it, and in the end does away with the process that asked: to ask for the nodes
of a Ray whose head is gone ended a server after 20 s, with a stack of Ray's (2.60, 2026-11).
"""

import socket

import ray

_ANSWERS_S = 1.0


def check() -> None:
    """See that it is there, before anything is asked of it.

    Raises:
        ConnectionRefusedError: it is not.
    """
    if not is_heard():
        raise ConnectionRefusedError("Ray's head does not answer")


def is_heard() -> bool:
    """Whether it takes connections now."""
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _ANSWERS_S).close()
    except OSError:
        return False
    return True
