"""One function's place in the pool: its instances, its queue, and what is known of its past."""

import math
import threading
from dataclasses import dataclass, field

from cloud_fn.functions.channel import Connection
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.cuts import Cut, Deployed, Known
from cloud_fn.functions.launch import CPU, Running
from cloud_fn.functions.scaling import Context, FixedPolicy, History, Policy, Window, seen
from cloud_fn.functions.spec import Function

LINGER_S = 1.0
"""How long an instance stays that is not wanted again for minutes: a start costs milliseconds, and
requests come in groups."""


_ALWAYS = Window(0.0, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a function may use and how long its instances live.

    ``concurrency`` are the requests that one instance runs at a time, ``policy`` says what becomes
    of instances while nobody asks, ``confinement`` what the system lets an instance have, and
    ``kind`` on which hosts.
    """

    concurrency: int = 4
    min_instances: int = 0
    max_instances: int = 1
    max_execution_s: float = 30.0
    start_timeout_s: float = 60.0
    policy: Policy = field(default_factory=FixedPolicy)
    confinement: Confinement | None = None
    kind: str = CPU

    @property
    def at_start(self) -> tuple[object, ...]:
        """What an instance that runs cannot be told any more."""
        return self.confinement, self.kind


@dataclass(slots=True, eq=False)
class Live:
    """An instance that takes requests. Guarded by its slot's ``changed``.

    It was asked for at ``asked_s`` and listens since ``ready_s``; ``used_s`` is when it last ended
    a request, None when it has had none. One that is ``stale`` was started under other limits;
    one that is ``over`` is being ended. ``clock`` is what the budget's showed at its last request,
    ``size_bytes`` its memory when it was last looked at. Of the cuts in ``warm`` it has the tails;
    it is ``warming`` while it loads more of them.
    """

    running: Running
    asked_s: float
    ready_s: float
    used_s: float | None = None
    in_use: int = 0
    stale: bool = False
    over: bool = False
    clock: float = 0.0
    size_bytes: int | None = None
    warm: Known = field(default_factory=Known)
    warming: bool = False
    idle: list[Connection] = field(default_factory=list)

    def leaves_s(self, window: Window) -> float:
        """When it has been idle for long enough."""
        if self.used_s is None:  # started ahead of demand
            return self.ready_s + window.keep_s
        if window.prewarm_s > 0:
            return self.used_s + LINGER_S
        return self.used_s + window.keep_s

    def close(self) -> None:
        """Close the connections that wait for a request; those in use close on release."""
        while self.idle:
            self.idle.pop().close()


@dataclass(slots=True, eq=False)
class Slot:
    """Guarded by ``changed``, which is notified whenever a request may go on or must give up.

    ``waiting`` holds when each request came that has no place yet. ``failures`` counts the starts
    that failed, the last one at ``failed_s`` for ``failure``. ``last_start_s`` and ``last_load_s``
    are how long it last took to start an instance and to load the model, ``size_bytes`` what one
    was last seen to take, and ``calls`` counts the requests since there last was no instance.
    ``ended_s`` is when the function's last request ended, None while one runs or before any has;
    ``back_s`` when an instance should be there again though nobody has asked. ``window`` is what
    the policy said when it was last asked, which after the last request was if ``planned``.
    ``deployed`` are the cuts whose tails every instance should have. ``idle_s`` are the idle times
    that ``before`` has yet to take in, which no request waits for.
    """

    function: Function
    limits: Limits
    changed: threading.Condition = field(default_factory=threading.Condition)
    lives: list[Live] = field(default_factory=list)
    starting: int = 0
    waiting: list[float] = field(default_factory=list)
    failures: int = 0
    failure: Exception | None = None
    failed_s: float = -math.inf
    last_start_s: float = 0.0
    last_load_s: float = 0.0
    calls: int = 0
    size_bytes: int | None = None
    before: History = field(default_factory=History)
    idle_s: list[float] = field(default_factory=list)
    ended_s: float | None = None
    back_s: float | None = None
    window: Window = _ALWAYS
    planned: bool = False
    deployed: Deployed = field(default_factory=Deployed)

    @property
    def history(self) -> History:
        """The function's idle times, all of them."""
        if self.idle_s:
            for idle_s in self.idle_s:
                self.before = seen(self.before, idle_s)
            self.idle_s.clear()
        return self.before

    @property
    def in_use(self) -> int:
        return sum(live.in_use for live in self.lives)

    def enter(self, now_s: float, *, anew: bool) -> None:
        """A request waits for a place; *anew* unless it had one and came back unserved."""
        if anew and self.ended_s is not None:
            self.idle_s.append(now_s - self.ended_s)
        self.ended_s = None
        self.back_s = None
        self.waiting.append(now_s)

    def take(self) -> Live | None:
        """A place of the instance that has most to do, so that others may become idle."""
        free = [
            live for live in self.lives if not live.stale and live.in_use < self.limits.concurrency
        ]
        if not free:
            return None
        live = max(free, key=lambda each: (each.in_use, each.ready_s))
        live.in_use += 1
        self.calls += 1
        return live

    def left(self, now_s: float) -> None:
        """A request has gone; where it was the last, the function is idle."""
        if not self.in_use and not self.waiting:
            self.ended_s = now_s
            self.planned = False

    def plan(self, window: Window) -> None:
        """What the policy says, which is asked once after the function became idle."""
        self.window = window
        if self.ended_s is not None and not self.planned:
            self.planned = True
            self.back_s = self.ended_s + window.prewarm_s if window.prewarm_s > 0 else None

    def context(self, now_s: float) -> Context:
        """What :func:`cloud_fn.functions.scaling.decide` wants to know."""
        return Context(
            policy=self.limits.policy,
            history=self.history,
            instances=sum(not live.stale for live in self.lives) + self.starting,
            in_use=self.in_use,
            waiting=len(self.waiting),
            oldest_wait_s=now_s - self.waiting[0] if self.waiting else 0.0,
            start_s=self.last_start_s,
            concurrency=self.limits.concurrency,
            least=self.limits.min_instances,
            most=self.limits.max_instances,
        )

    def missing(self, live: Live) -> tuple[Cut, ...]:
        """The deployed cuts whose tails *live* has yet to load."""
        return self.deployed.missing(live.warm)

    def may_warm(self, live: Live) -> bool:
        """Whether *live* may load them now: not before its first request, if one is there."""
        if live.warming or live.stale or live.over or not self.missing(live):
            return False
        return live.used_s is not None or not (live.in_use or self.waiting)

    def idlers(self, now_s: float) -> tuple[list[Live], float]:
        """Those that have been idle for long enough, and when to look again.

        The newest ``min_instances`` stay.
        """
        fresh = [live for live in self.lives if not live.stale]
        spare = len(fresh) - self.limits.min_instances
        due, again_s = [], math.inf
        for live in sorted(fresh, key=lambda each: each.ready_s):
            if live.in_use or spare <= 0:
                continue
            leaves_s = live.leaves_s(self.window)
            if leaves_s <= now_s:
                due.append(live)
                spare -= 1
            else:
                again_s = min(again_s, leaves_s)
        return due, again_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to run one request on an instance; ``init_s`` was spent waiting for its start."""

    slot: Slot
    live: Live
    init_s: float
