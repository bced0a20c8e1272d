"""What our own Ray must find in the environment before anything imports it."""

import os
import secrets
import socket
import sys
from pathlib import Path

from cloud_fn.config import Address
from cloud_fn.errors import ServeError

_ANSWERS_S = 5.0
_ON_REQUEST_ONLY = ("RAY_ENABLE_AUTO_CONNECT", "0")
"""Else any call that is late for the end of one Ray starts another."""

_TELL_NO_TASKS = ("RAY_task_events_report_interval_ms", "0")
"""Else Ray's head is told of each beat to the controller, and the end of a process waits for one
that is gone to hear of the last (10 s, 2.60, 2026-11)."""

_LOOPBACK_ONLY = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
"""Else Ray replaces a loopback address, to listen on or to call, by that of an interface."""


def prepare_own(folder: Path) -> None:
    """Have the Ray that this process starts be shut, quiet, and no nicer than ourselves.

    Ray's core reads its settings once, when it is imported, and its processes inherit them.

    Args:
        folder: where its token is written, for the owner only.
    """
    _check_not_imported()
    folder.mkdir(mode=0o700, exist_ok=True)
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ.update([_LOOPBACK_ONLY, _ON_REQUEST_ONLY])
    os.environ.update(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(token),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_worker_niceness="0",  # 15 by default: instances would starve beside anything else
        # Of the workers that Ray starts ahead, one for each processor, a host needs one.
        RAY_prestart_worker_first_driver="0",
        RAY_num_workers_soft_limit="0",
    )


def prepare_join(address: str) -> None:
    """Get ready to join the Ray at *address*, which has a token unless the environment says not.

    The secrets of hosts on other nodes go through Ray.

    Raises:
        ServeError: *address* is none, or nobody listens there, which Ray itself would try for
            minutes; or there is no token.
    """
    _check_not_imported()
    os.environ.update([_ON_REQUEST_ONLY, _TELL_NO_TASKS])
    if address == "auto":  # Ray finds the one that was started on this machine
        _have_token()
        return
    try:
        where = Address.parse(address)
        socket.create_connection((where.host, where.port), _ANSWERS_S).close()
    except (ServeError, OSError) as error:
        raise ServeError(
            f"no Ray answers at {address!r} (ray.address): start one there, "
            "or leave ray.address out to have one of our own"
        ) from error
    if where.is_loopback:
        os.environ.update([_LOOPBACK_ONLY])
    _have_token()


def _have_token() -> None:
    """See that there is a token where Ray looks for it."""
    if os.environ.setdefault("RAY_AUTH_MODE", "token") != "token" or "RAY_AUTH_TOKEN" in os.environ:
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path(os.environ.get("HOME", "/")) / ".ray" / "auth_token"
    if not path.is_file():
        raise ServeError(
            f"there is no token of the Ray that is to be joined at {path}: put it there, or set "
            "RAY_AUTH_TOKEN_PATH, or RAY_AUTH_MODE=disabled where it has none"
        )


def _check_not_imported() -> None:
    if "ray" in sys.modules:
        raise RuntimeError("ray is imported already: its settings can no longer be changed")
