"""Plans and plan tables, as values and as a JSON document that device and people read."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from planner.cascade.document import Cascade
from planner.chunks import Chunk, check, hidden_s
from planner.errors import PlannerError
from planner.loads import Load
from protos.documents import DocumentError, encode_json, read_json

SCHEMA: Literal["isthmus.plan/1"] = "isthmus.plan/1"

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Bytes = Annotated[int, msgspec.Meta(ge=0)]


class Crossing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tensor that crosses, with its codec and its bytes on the wire."""

    tensor: str
    codec: str
    bytes: Bytes


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cut with its codecs and what it is expected to cost, per request.

    ``crossing`` is empty when all runs on the device; ``["bytes"]`` means that the sensor's message
    is sent as it is and nothing runs there. ``ops`` counts the network's ops, of which
    ``ops_on_device`` run before the crossing. ``refused`` says why the plan is no candidate, and
    is empty where it is one.

    ``overhead_s`` is the device's own software around the request, ``wait_s`` the expected wait for
    an instance in the cloud, ``device_bytes`` the weights of what runs on the device and the most
    that is alive beside them. ``energy_j`` and ``usd`` are per request at the document's link, and
    ``fps`` the frames per second with frames in flight, where they were asked for. ``drop`` is the
    measured loss of accuracy, None where nothing lossy crosses or nothing was measured.

    ``chunks`` say how the request is sent while the head still works, where that can pay; empty, it
    is sent in one message.
    """

    id: str
    crossing: tuple[Crossing, ...]
    ops_on_device: int
    ops: int
    device_s: Seconds
    encode_s: Seconds
    decode_s: Seconds
    cloud_s: Seconds
    download_bytes: Bytes
    overhead_s: Seconds = 0.0
    wait_s: Seconds = 0.0
    device_bytes: Bytes = 0
    energy_j: Seconds | None = None
    usd: Seconds | None = None
    fps: Seconds | None = None
    drop: float | None = None
    refused: str = ""
    chunks: tuple[Chunk, ...] = ()

    @property
    def kind(self) -> Literal["edge", "split", "cloud"]:
        if not self.crossing:
            return "edge"
        return "split" if self.ops_on_device else "cloud"

    @property
    def upload_bytes(self) -> int:
        return sum(crossing.bytes for crossing in self.crossing)

    @property
    def remote(self) -> bool:
        """Whether the link is used."""
        return bool(self.crossing)

    @property
    def busy_s(self) -> float:
        """The device's work on the model, codecs included."""
        return self.device_s + self.encode_s

    @property
    def served_s(self) -> float:
        """The cloud's work, codecs included."""
        return self.cloud_s + self.decode_s

    @property
    def compute_s(self) -> float:
        """Everything but the link."""
        return self.busy_s + self.served_s + self.overhead_s + self.wait_s

    def fixed_s(self, *, rtt_s: float, down_bps: float) -> float:
        """What does not depend on the uplink's bandwidth."""
        if not self.crossing:
            return self.compute_s
        return self.compute_s + rtt_s + self.download_bytes / down_bps

    def hidden_s(self, up_bps: float, *, pace: float = 1.0) -> float:
        """What sending in chunks saves over sending when all is ready; 0 where it saves nothing.

        Args:
            up_bps: bytes per second from the device.
            pace: by how much the device is slower than planned.
        """
        return hidden_s(self.chunks, self.busy_s, self.upload_bytes, up_bps, pace=pace)

    def total_s(self, up_bps: float, rtt_s: float, down_bps: float | None = None) -> float:
        """Expected latency in seconds.

        Args:
            up_bps: bytes per second from the device.
            rtt_s: round trip in seconds.
            down_bps: bytes per second to the device; the same as up when None.
        """
        fixed = self.fixed_s(rtt_s=rtt_s, down_bps=down_bps or up_bps)
        return fixed + self.upload_bytes / up_bps - self.hidden_s(up_bps)


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From ``from_bps`` (included) to ``to_bps`` bytes per second this plan is the best."""

    from_bps: float
    to_bps: float
    plan: str


class LinkFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    up_bps: float
    down_bps: float
    rtt_s: float


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The choice re-costed from the prices, and what nothing can cost less than, in *unit*.

    With a minimum cut the two agree to within ``resolution``, the rounding of all prices together;
    with an integer programme their difference is the gap that the solver left.
    """

    method: Literal["minimum cut", "integer programme"]
    unit: str
    cost: Seconds
    bound: Seconds
    resolution: Seconds = 0.0


class Share(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of the frames in flight, this share follows the plan."""

    plan: str
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]


class Mixture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several plans side by side, for frames in flight; no mixture passes ``most_fps``."""

    shares: tuple[Share, ...]
    fps: Seconds
    most_fps: Seconds


class PlanDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The choice for one link, every other plan worth naming, and the table over bandwidth.

    ``gain`` is the better of the device alone and the cloud alone over the choice (1.3: it takes
    1.3 times as long, as much energy, as much money); ``limits`` say what the plan had to keep to.
    Nowhere on the table is another plan better by more than the share ``table_gap``: 0 where it
    names every best plan.
    """

    schema: Literal["isthmus.plan/1"]
    model: str
    digest: str
    objective: Literal["latency", "energy", "cost", "throughput"]
    link: LinkFigures
    choice: str
    runner_up: str
    certificate: Certificate
    plans: tuple[Plan, ...]
    baselines: tuple[str, ...]
    table: tuple[Range, ...]
    reason: str
    table_gap: Seconds = 0.0
    gain: Seconds = 1.0
    limits: tuple[str, ...] = ()
    load: Load = Load()
    mixture: Mixture | None = None
    cascade: Cascade | None = None

    def plan(self, id_: str) -> Plan:
        """The plan of that name.

        Raises:
            PlannerError: there is none.
        """
        for plan in self.plans:
            if plan.id == id_:
                return plan
        names = ", ".join(plan.id for plan in self.plans)
        raise PlannerError(f"there is no plan {id_!r}: the plans are {names}")

    def at(self, up_bps: float, rtt_s: float | None = None) -> Plan:
        """The best plan for a link of *up_bps* bytes per second.

        The table holds for the round trip it was made for; at another the plans that it knows are
        priced anew.
        """
        same = rtt_s is None or abs(rtt_s - self.link.rtt_s) <= 0.1 * self.link.rtt_s
        if rtt_s is None or same or self.objective != "latency":
            for range_ in self.table:
                if up_bps < range_.to_bps:
                    return self.plan(range_.plan)
            return self.plan(self.table[-1].plan)
        candidates = [plan for plan in self.plans if not plan.refused]
        return min(candidates, key=lambda plan: plan.total_s(up_bps, rtt_s, self.link.down_bps))


def read_plan(path: Path) -> PlanDocument:
    """Read a plan.

    Raises:
        PlannerError: unreadable, a field is missing, unknown or wrong, or a plan is named that
            the document does not hold.
    """
    try:
        document = read_json(path, PlanDocument, what="plan")
    except DocumentError as error:
        raise PlannerError(str(error)) from error
    if not document.table:
        raise PlannerError(f"plan {path} is not valid: the table is empty")
    shares = document.mixture.shares if document.mixture else ()
    named = (document.choice, document.runner_up, *document.baselines)
    for name in (*named, *(r.plan for r in document.table), *(s.plan for s in shares)):
        document.plan(name)
    for plan in document.plans:
        crossing = [(each.tensor, each.bytes) for each in plan.crossing]
        check(plan.chunks, crossing, f"plan {plan.id} of {path}")
    return document


def write_plan(document: PlanDocument, path: Path) -> None:
    path.write_bytes(encode_json(document))
