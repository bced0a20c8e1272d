"""What is to be least: latency, energy, money, or the work of each stage, as price lists.

Each objective is linear in what a plan uses and in one over the uplink's bandwidth, so that one
solver serves them all and the plan table over bandwidth is exact for each.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from planner.energy import Radio, radio_rates
from planner.links import Link
from planner.loads import Load
from planner.rates import Rates, Use
from planner.tariffs import Tariff

Name = Literal["latency", "energy", "cost", "throughput"]
NAMES: tuple[Name, ...] = get_args(Name)
UNITS = {"latency": "s", "energy": "J", "cost": "USD", "throughput": "s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """``fixed`` and, for each second per byte of the uplink, ``pace`` more."""

    fixed: Rates
    pace: Rates

    def at(self, up_bps: float) -> Rates:
        """The price list at *up_bps* bytes per second."""
        return self.fixed + self.pace * (1 / up_bps)

    def of(self, use: Use, up_bps: float) -> float:
        return self.at(up_bps).of(use)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that lies around the model: link, cloud load, software overheads, power, prices.

    ``local_s`` and ``remote_s`` are the device's software around a request that it answers itself
    and around one that it sends; ``busy_w`` is what its processor draws above idle.
    """

    link: Link
    load: Load
    local_s: float
    remote_s: float
    busy_w: float | None
    radio: Radio | None
    tariff: Tariff

    def latency(self) -> Objective:
        """Seconds from the sensor's message to the answer on the device."""
        trip = self.link.rtt_s + self.load.wait_s + self.remote_s
        fixed = Rates(
            device=1.0, cloud=1.0, down=1 / self.link.down_bps, trip=trip, stay=self.local_s
        )
        return Objective(fixed=fixed, pace=Rates(up=1.0))

    def energy(self) -> Objective:
        """Joules that the device spends on a request above what it draws idle.

        Raises:
            ValueError: the device's power or its radio is not known.
        """
        if self.busy_w is None or self.radio is None:
            raise ValueError("energy needs the device's power and its radio")
        fixed, pace = radio_rates(self.radio, self.link.down_bps)
        waiting = self.radio.base_w * (self.link.rtt_s + self.load.wait_s)
        work = Rates(
            device=self.busy_w,
            trip=self.busy_w * self.remote_s + waiting,
            stay=self.busy_w * self.local_s,
        )
        return Objective(fixed=fixed + work, pace=pace)

    def cost(self) -> Objective:
        """US dollars that a request costs in the cloud and on a metered link."""
        return Objective(fixed=self.tariff.rates(), pace=Rates())

    def stages(self, up_bps: float) -> tuple[Rates, ...]:
        """Seconds of work per frame of device, uplink, cloud and downlink."""
        return (
            Rates(device=1.0, trip=self.remote_s, stay=self.local_s),
            Rates(up=1 / up_bps),
            Rates(cloud=1.0),
            Rates(down=1 / self.link.down_bps),
        )

    def objective(self, name: Name) -> Objective:
        """The one of that name; throughput's is latency, which plans share it with on a table."""
        match name:
            case "energy":
                return self.energy()
            case "cost":
                return self.cost()
            case _:
                return self.latency()
