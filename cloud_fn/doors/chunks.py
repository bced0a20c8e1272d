"""Requests of one stream that come in several messages, held until their last one is there."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cloud_fn.errors import Busy, CloudError, InvalidRequest, TooLarge
from protos import wire
from protos.invocation import Route

MOST_WAIT_S = 30.0
"""How long a request is held from its first chunk on; a device gives up much earlier."""


@dataclass(slots=True, kw_only=True)
class _Held:
    """What is there of a request whose first chunk said *first*."""

    first: Route
    of: int
    since_s: float
    parts: list[bytes] = field(default_factory=list)

    @property
    def next(self) -> int:
        return len(self.parts) + 1


class Chunks:
    """Makes whole requests of the messages of one stream. For the one thread that reads it."""

    def __init__(
        self,
        *,
        max_open: int,
        max_message_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up.

        Args:
            max_open: how many requests may be held at one time.
            max_message_bytes: how large a request may become.
            clock: gives seconds.
        """
        self._max_open = max_open
        self._max_message_bytes = max_message_bytes
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._refused: dict[str, float] = {}  # since when; the oldest come first

    def take(self, data: bytes) -> bytes | None:
        """Give the request that *data* is, or is the last chunk of; None while there is more.

        A refused request is answered once: what still comes of it is ignored, until its chunk 1
        begins it anew.

        Raises:
            InvalidRequest | TooLarge | Busy: the chunk is refused, and with it what was held of its
                request.
            WireError: *data* is no request.
        """
        now_s = self._clock()
        self._drop_before(now_s - MOST_WAIT_S)
        route = wire.route(data)
        if route.chunk is None or route.chunk[1] == 1:
            return data
        number, of = route.chunk
        if number == 1:
            self._refused.pop(route.id, None)
            self._held.pop(route.id, None)
        elif route.id in self._refused:
            return None
        try:
            held = self._fitting(route, number, of, now_s)
            held.parts.append(data)
            self._check_size(held)
        except CloudError:
            self._held.pop(route.id, None)
            self._refuse(route.id, now_s)
            raise
        if number < of:
            return None
        del self._held[route.id]
        return wire.joined(held.parts)

    def _fitting(self, route: Route, number: int, of: int, now_s: float) -> _Held:
        """What the chunk adds to."""
        came = f"chunk {number} of {of} of request {route.id[:40]!r}"
        if not route.id:
            raise InvalidRequest(
                f"chunk {number} of {of} came without an id: send one id with all of its chunks"
            )
        if number == 1:
            if len(self._held) >= self._max_open:
                raise Busy(
                    f"the stream has {len(self._held)} requests in chunks open (max_in_stream): "
                    "send their last chunks first"
                )
            self._held[route.id] = _Held(first=route, of=of, since_s=now_s)
        held = self._held.get(route.id)
        if held is None:
            raise InvalidRequest(
                f"{came} came, but chunk 1 was expected: send all of them again, in order and "
                f"within {MOST_WAIT_S:g} s"
            )
        if (number, of) != (held.next, held.of):
            raise InvalidRequest(
                f"{came} came, but chunk {held.next} of {held.of} was expected: send all of them "
                "again, in order"
            )
        if (route.model, route.version) != (held.first.model, held.first.version):
            raise InvalidRequest(
                f"{came} is for {_whose(route)}, but {_whose(held.first)} was expected: name the "
                "same in all of them"
            )
        return held

    def _check_size(self, held: _Held) -> None:
        nbytes = sum(map(len, held.parts))
        if nbytes > self._max_message_bytes:
            raise TooLarge(
                f"the request has {nbytes} bytes in {len(held.parts)} of {held.of} chunks: send at "
                f"most {self._max_message_bytes} (max_message_bytes)"
            )

    def _refuse(self, id_: str, now_s: float) -> None:
        self._refused[id_] = now_s
        if len(self._refused) > self._max_open:
            del self._refused[next(iter(self._refused))]

    def _drop_before(self, at_s: float) -> None:
        self._held = {id_: held for id_, held in self._held.items() if held.since_s >= at_s}
        self._refused = {id_: since_s for id_, since_s in self._refused.items() if since_s >= at_s}


def _whose(route: Route) -> str:
    return f"model {route.model[:40]!r} version {route.version[:40]!r}"
