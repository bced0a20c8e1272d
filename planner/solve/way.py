"""One way for a tensor to cross."""

from dataclasses import dataclass

from planner.rates import Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A tensor's codec, its bytes, the seconds at both ends, and in how many slices it is sent."""

    codec: str
    nbytes: int
    encode_s: float
    decode_s: float
    slices: int = 1

    def price(self, rates: Rates) -> float:
        return rates.device * self.encode_s + rates.up * self.nbytes + rates.cloud * self.decode_s
