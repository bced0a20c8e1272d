"""The controller as a Ray actor, and the way to it: one for all gateways, found by its name.

Detached, so that it outlives whoever made it, and started again by Ray for as long as there are
gateways. It is on no request's way.
"""

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError

from cloud_fn import ray_head
from cloud_fn.controller.beating import Unheard
from cloud_fn.controller.books import (
    Books,
    Event,
    Finish,
    Forgotten,
    Grant,
    Heard,
    Left,
    Looked,
    Order,
    standing,
    step,
)
from cloud_fn.controller.messages import Beat, Standing
from cloud_fn.functions.leases import Roll
from cloud_fn.functions.ray_hosts import HOST_PREFIX

log = logging.getLogger(__name__)

NAME = "isthmus-controller"

_LOOK_S = 2.0
_GATHER_S = 0.25
_ROLL_S = 1.0
_ANSWER_S = 2.0
_START_S = 30.0
_MOST_SILENT = 5
"""How many answers to beats may be lacking in a row until the controller is taken for hung. One
that was stopped was back after 17 s, two gateways being at it (2026-11)."""


class ControllerActor:
    """Keeps the books: thin around :mod:`cloud_fn.controller.books`."""

    def __init__(self) -> None:
        self._me = ray.get_runtime_context().current_actor
        self._lock = threading.Lock()
        self._books = Books(began_s=time.monotonic())
        threading.Thread(target=self._look_on, name="controller.look", daemon=True).start()

    def beat(self, text: str) -> str:
        """A gateway's :class:`Beat` as JSON; gives what it may use of each node, as JSON."""
        beat = msgspec.json.decode(text, type=Beat)
        orders = self._note(Heard(at_s=time.monotonic(), beat=beat))
        shares = next(dict(order.shares) for order in orders if isinstance(order, Grant))
        return msgspec.json.encode(shares).decode()

    def leave(self, gateway: str) -> bool:
        """A gateway has ended all that it had; says whether nobody is left."""
        orders = self._note(Left(at_s=time.monotonic(), gateway=gateway))
        return any(isinstance(order, Finish) for order in orders)

    def standing(self) -> str:
        """:class:`Standing` as JSON."""
        with self._lock:
            books = self._books
        return msgspec.json.encode(standing(books, time.monotonic())).decode()

    def _note(self, event: Event) -> tuple[Order, ...]:
        with self._lock:
            self._books, orders = step(self._books, event)
        for order in orders:
            if isinstance(order, Forgotten):
                log.warning("gateway gone: gateway=%s", order.gateway)
        return orders

    def _look_on(self) -> None:
        while True:
            try:
                rolls = _rolls()
            except Exception as error:  # noqa: BLE001  Ray's errors are many, and it may recover
                log.warning("hosts unknown: error=%s", " ".join(str(error).split())[:200])
            else:
                orders = self._note(Looked(at_s=time.monotonic(), rolls=rolls))
                if any(isinstance(order, Finish) for order in orders):
                    ray.kill(self._me)
            time.sleep(_LOOK_S if self._books.gathered else _GATHER_S)


def _rolls() -> dict[str, Roll | None]:
    """What each host says that Ray knows of; None where it says nothing in time."""
    names = [name for name in ray.util.list_named_actors() if name.startswith(HOST_PREFIX)]
    asked: dict[str, Any] = {}
    for name in names:
        try:
            asked[name] = ray.get_actor(name).roll.remote()
        except ValueError:
            continue  # it has just ended
    if asked:
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=_ROLL_S)
    return {name: found for name, ref in asked.items() if (found := _roll(ref)) is not _GONE}


_GONE: Any = object()


def _roll(ref: Any) -> Roll | None:  # noqa: ANN401  Ray's
    if not ray.wait([ref], timeout=0)[0]:
        return None
    try:
        return msgspec.json.decode(ray.get(ref), type=Roll | None)
    except ray.exceptions.RayActorError:
        return _GONE  # type: ignore[no-any-return]
    except RayError:
        return None


class RayLink:
    """A :class:`cloud_fn.controller.beating.Link`; Ray must be connected.

    Finds the controller, or has it started; has one that hangs started again, which Ray itself
    does only for one that ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actor: Any = None
        self._silent = 0

    def beat(self, beat: Beat) -> Mapping[str, int]:
        """See :class:`Link`."""
        text = msgspec.json.encode(beat).decode()
        return msgspec.json.decode(self._ask("beat", text), type=dict[str, int])

    def leave(self, gateway: str) -> None:
        """Say that the gateway goes and has ended all that it had; the last ends the controller."""
        if self._actor is None:
            return  # it never heard of us, or is not there
        try:
            if self._ask("leave", gateway):
                ray.kill(self._actor)
        except Unheard as error:
            log.warning("controller not told of the end: why=%s", error)

    def standing(self) -> Standing:
        """All that the controller knows.

        Raises:
            Unheard: it did not answer.
        """
        return msgspec.json.decode(self._ask("standing"), type=Standing)

    def _ask(self, method: str, *given: str) -> Any:  # noqa: ANN401  what the method gives
        try:
            ray_head.check()
            with self._lock:
                fresh = self._actor is None
                if fresh:
                    self._actor = _controller()
                ref = getattr(self._actor, method).remote(*given)
            ready, _ = ray.wait([ref], timeout=_START_S if fresh else _ANSWER_S)
            if not ready:
                if method == "beat":
                    self._doubt()
                raise Unheard("it does not answer in time")
            answer = ray.get(ref)
        except ConnectionError as error:
            raise Unheard(str(error)) from error
        except (RayError, ValueError) as error:
            self._actor = None  # found again, or started
            raise Unheard(" ".join(str(error).split())[:200]) from error
        self._silent = 0
        return answer

    def _doubt(self) -> None:
        self._silent += 1
        if self._silent >= _MOST_SILENT:
            self._silent = 0
            log.error("controller hangs, starting it again")
            ray.kill(self._actor, no_restart=False)


def _controller() -> Any:  # noqa: ANN401  Ray's types know an actor's methods only where its class imports Ray
    given: Any = ray.remote(ControllerActor)
    return given.options(
        name=NAME,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_concurrency=8,
        num_cpus=0,
    ).remote()
