"""What a request costs the device's battery: its processor, and its radio with its tail."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from planner.rates import Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Radio:
    """A radio's power in watts above idle.

    It draws ``base_w`` whenever it is connected, and for each bit per second ``up_w_per_bit_s`` or
    ``down_w_per_bit_s`` more. After the last packet it stays connected for ``tail_s`` at
    ``tail_w``: the tail, paid once by every request that uses the link.
    """

    up_w_per_bit_s: float
    down_w_per_bit_s: float
    base_w: float
    tail_w: float
    tail_s: float

    @property
    def tail_j(self) -> float:
        return self.tail_w * self.tail_s


def _radio(up: float, down: float, base: float, tail: float, tail_s: float) -> Radio:
    """From mW per Mbps, mW and seconds, as the paper prints them."""
    return Radio(
        up_w_per_bit_s=up * 1e-9,
        down_w_per_bit_s=down * 1e-9,
        base_w=base * 1e-3,
        tail_w=tail * 1e-3,
        tail_s=tail_s,
    )


RADIOS: Mapping[str, Radio] = MappingProxyType(
    {
        "3G": _radio(868.98, 122.12, 817.88, 803.9, 8.088),
        "LTE": _radio(438.39, 51.97, 1288.04, 1060.0, 11.576),
        "WiFi": _radio(283.17, 137.01, 132.86, 119.3, 0.238),
    }
)
"""Measured on phones: Huang et al., "A close examination of performance and power characteristics
of 4G LTE networks", MobiSys 2012, tables 3 and 4. The 3G tail is its DCH state."""


def radio_rates(radio: Radio, down_bps: float) -> tuple[Rates, Rates]:
    """Joules: a fixed part, and a part per second per byte (one over the uplink's bandwidth).

    The radio is connected while the request is up, in the cloud and on its way back.

    Args:
        radio: its powers.
        down_bps: bytes per second to the device.
    """
    down = radio.base_w / down_bps + radio.down_w_per_bit_s * 8
    fixed = Rates(cloud=radio.base_w, up=radio.up_w_per_bit_s * 8, down=down, trip=radio.tail_j)
    return fixed, Rates(up=radio.base_w)
