"""What the server does, in our own types. The doors convert, call and convert back."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

from cloud_fn.config import Instance
from cloud_fn.controller.messages import Standing
from cloud_fn.deployments import Cuts, Deployment, cut_asked, deploy_again, deployed
from cloud_fn.errors import Busy, CloudError, InvalidRequest, Stopping, TooLarge, UnknownModel
from cloud_fn.functions import Answer, Function
from cloud_fn.functions.cuts import Cut
from cloud_fn.functions.node_cache import NodeCache
from cloud_fn.functions.settings import Resolved
from cloud_fn.functions.specifications import Specifications
from cloud_fn.load import WINDOW_S, Recent, answered
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.registry.deployment_store import DeploymentStore, Kept
from cloud_fn.registry.function_store import FunctionStore
from planner.loads import Load
from protos import wire
from protos.timing import Timing

log = logging.getLogger(__name__)

_LOOK_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much the server takes at one time, and where; see :class:`cloud_fn.config.Config`."""

    max_message_bytes: int = 64 << 20
    max_in_flight: int = 64
    handlers_dir: str | None = None
    cache: NodeCache | None = None


class Calls(Protocol):
    """What runs functions: :class:`cloud_fn.functions.Pool`."""

    @property
    def cuts(self) -> Cuts:
        """What has their tails loaded ahead."""

    def call(self, function: Function, body: bytes, *, deadline_s: float | None = None) -> Answer:
        """See :meth:`cloud_fn.functions.Pool.call`."""

    def deploy(self, function: Function) -> None:
        """See :meth:`cloud_fn.functions.Pool.deploy`."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """How busy one function was, over the *requests* that it answered in *window_s* seconds.

    Of the cuts in *warm* every instance of it has the tails now.
    """

    model: str
    version: int
    window_s: float
    requests: int
    load: Load
    warm: tuple[Cut, ...] = ()


class Service:
    """The functions of one registry. Safe to use from many threads."""

    def __init__(
        self,
        catalog: Catalog,
        pool: Calls,
        bounds: Bounds,
        *,
        specifications: Specifications | None = None,
        asked: Callable[[str], None] = lambda _: None,
        standing: Callable[[], Standing] = lambda: Standing(alone=True),
    ) -> None:
        """Begin to take requests.

        Args:
            catalog: what is published.
            pool: what runs it.
            bounds: how much is taken at one time.
            specifications: what holds for each function; by default what does where nothing is
                said.
            asked: is told the function's name of each request.
            standing: tells of the gateways that share a Ray with this one.
        """
        self.standing = standing
        self.specifications = specifications or Specifications(
            catalog, FunctionStore(catalog.root), Instance()
        )
        self._deployments = DeploymentStore(catalog.root)
        self._asked = asked
        self._catalog = catalog
        self._pool = pool
        self._bounds = bounds
        self._functions: dict[tuple[str, int], tuple[Resolved, Function]] = {}
        self._recent: dict[str, Recent] = {}
        self._recent_lock = threading.Lock()
        self._changed = threading.Condition()
        self._in_flight = 0
        self._stopping = False

    def deploy(self) -> None:
        """Have the instances that functions keep in any case before anybody asks them.

        Those to come load the cuts, too, that were deployed before the server was started.
        """
        deploy_again(self._deploy_kept, self._deployments.all())
        for name in self._catalog.names():
            try:
                if self.specifications.resolved(name).min_instances:
                    self._pool.deploy(self._function(name, ""))
            except CloudError as error:
                log.error("not deployed: function=%s error=%s", name, error)

    def admit(self) -> float:
        """Take responsibility for one more request, until :meth:`leave`.

        Returns:
            When it was received, on this process's ``time.perf_counter``.

        Raises:
            Busy | Stopping: not now, or not any more.
        """
        received_s = time.perf_counter()
        with self._changed:
            if self._stopping:
                raise Stopping("the server is stopping: send the request again later")
            if self._in_flight >= self._bounds.max_in_flight:
                raise Busy(
                    f"the server has {self._in_flight} requests in flight (max_in_flight): "
                    "send the request again later"
                )
            self._in_flight += 1
        return received_s

    def leave(self) -> None:
        """An admitted request is answered."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def infer(self, data: bytes, *, timeout_s: float | None = None) -> bytes:
        """Answer one encoded ModelInferRequest with an encoded, stamped ModelInferResponse.

        Args:
            data: the request.
            timeout_s: how long the caller waits, beside what the request says.

        Raises:
            CloudError | WireError: see the leaves in :mod:`cloud_fn.errors`.
        """
        received_s = self.admit()
        try:
            return self.answer(data, received_s, timeout_s=timeout_s, alone=True)
        finally:
            self.leave()

    def answer(
        self,
        data: bytes,
        received_s: float,
        *,
        timeout_s: float | None = None,
        alone: bool = False,
    ) -> bytes:
        """As :meth:`infer`, for a request that was admitted at *received_s*.

        One that was joined from its chunks still says that it is the last; a message that came
        *alone* may be no chunk.
        """
        if len(data) > self._bounds.max_message_bytes:
            raise TooLarge(
                f"the message has {len(data)} bytes: send at most "
                f"{self._bounds.max_message_bytes} (max_message_bytes)"
            )
        route = wire.route(data)
        if alone and route.chunk is not None and route.chunk[1] > 1:
            number, of = route.chunk
            raise InvalidRequest(
                f"chunk {number} of {of} came over ModelInfer: send a request's chunks over one "
                "ModelStreamInfer"
            )
        deadline_s = None if route.deadline_ms is None else route.deadline_ms / 1e3
        waits_s = [wait_s for wait_s in (timeout_s, deadline_s) if wait_s is not None]
        function = self._function(route.model, route.version)
        self._asked(function.name)
        answer = self._pool.call(
            function,
            data,
            deadline_s=received_s + min(waits_s) if waits_s else None,
        )
        timing = account(answer, received_s=received_s, now_s=time.perf_counter())
        recent = self._remember(function, timing)
        if (cut := cut_asked(route)) is not None:
            self._pool.cuts.used(function, answer.instance, cut)
        return wire.stamp_reply(
            answer.body,
            timing,
            cold=answer.cold,
            instance=answer.instance,
            waits=None if route.cut is None else recent.waits(time.perf_counter()),
        )

    def manifest(self, model: str, version: str = "") -> Manifest:
        """What a version is; see :meth:`cloud_fn.registry.Catalog.manifest`."""
        return self._catalog.manifest(model, version)

    def versions(self, model: str) -> tuple[int, ...]:
        return self._catalog.versions(model)

    def index(self) -> tuple[Manifest, ...]:
        """Every version of every model; each may be asked, for it starts when it is."""
        return self._catalog.manifests()

    def load(self, model: str, version: str = "") -> LoadReport:
        """How busy a version was lately; the newest if none is named.

        Raises:
            UnknownModel: there is no such model or version.
        """
        function = self._function(model, version)
        at_s = time.perf_counter()
        with self._recent_lock:
            recent = self._recent.get(function.key, Recent())
        return LoadReport(
            model=function.model,
            version=function.version,
            window_s=WINDOW_S,
            requests=recent.requests(at_s),
            load=recent.load(at_s),
            warm=self._pool.cuts.report(function).warm,
        )

    def deploy_cuts(self, model: str, version: str, cuts: Iterable[Iterable[str]]) -> Deployment:
        """See :func:`cloud_fn.deployments.deployed`.

        Raises:
            UnknownModel: there is no such model or version.
            InvalidRequest: more than a deployment may have.
        """
        function = self._function(model, version)
        return deployed(self._pool.cuts, function, cuts, self._deployments.note)

    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return not self._stopping

    def has(self, model: str, version: str = "") -> bool:
        """Whether this version may be asked now."""
        try:
            self._catalog.manifest(model, version)
        except UnknownModel:
            return False
        return self.is_ready()

    def info(self) -> ServerInfo:
        return ServerInfo("isthmus", _version(), ("model_repository",))

    def drain(self, timeout_s: float, *, give_up: threading.Event) -> int:
        """Take nothing new and wait for what was taken, or until *give_up* is set.

        Returns:
            How many requests are still unanswered.
        """
        until_s = time.perf_counter() + timeout_s
        with self._changed:
            self._stopping = True
            while self._in_flight and not give_up.is_set():
                left_s = until_s - time.perf_counter()
                if left_s <= 0:
                    break
                self._changed.wait(min(left_s, _LOOK_S))
            return self._in_flight

    def _deploy_kept(self, kept: Kept) -> None:
        model, _ = self.specifications.target(kept.name, str(kept.version))
        if model != kept.model:
            raise UnknownModel(f"{kept.name} runs {model} now, and not {kept.model}")
        self.deploy_cuts(kept.name, str(kept.version), kept.cuts)

    def _remember(self, function: Function, timing: Timing) -> Recent:
        with self._recent_lock:
            recent = self._recent.get(function.key, Recent())
            recent = self._recent[function.key] = answered(recent, timing, time.perf_counter())
            return recent

    def _function(self, name: str, version: str) -> Function:
        """What a request to *name* runs, as the settings are now."""
        manifest, settings = self.specifications.asked(name, version)
        key = (name, manifest.version)
        known = self._functions.get(key)
        if known is None or known[0] != settings:
            made = Function.of(
                manifest,
                self._catalog,
                name=name,
                settings=settings,
                handlers_dir=self._bounds.handlers_dir,
                cache=self._bounds.cache,
            )
            known = self._functions[key] = (settings, made)
        return known[1]


def account(answer: Answer, *, received_s: float, now_s: float) -> Timing:
    """Part the time between *received_s* and *now_s* into the five terms, which add up to it.

    The instance's own two are durations that it measured; no clock crosses a process. What is left
    after the request was handed over (the socket, both ways, and taking the reply) is *response*.
    """
    trigger_s = max(0.0, answer.handed_s - received_s - answer.init_s)
    rest_s = now_s - received_s - trigger_s - answer.init_s
    load_s = min(answer.load_s, rest_s)
    infer_s = min(answer.infer_s, rest_s - load_s)
    return Timing(
        trigger_s=trigger_s,
        init_s=answer.init_s,
        load_s=load_s,
        infer_s=infer_s,
        response_s=max(0.0, rest_s - load_s - infer_s),
    )


def _version() -> str:
    try:
        return version("isthmus")
    except PackageNotFoundError:  # run from a checkout
        return "0"
