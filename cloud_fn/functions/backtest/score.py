"""What windows would have cost on a trace."""

from dataclasses import dataclass

import msgspec
import numpy as np

from cloud_fn.functions.backtest.trace import Floats, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """For each moment of a trace, when a function is loaded after it; ``end_s`` may be infinite.

    ``begin_s`` is 0 where it stays loaded.
    """

    begin_s: Floats
    end_s: Floats


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy did on a trace.

    ``idle_byte_s`` is the memory that was loaded and not used; ``memory`` is the same as a multiple
    of what a fixed keep-alive of ten minutes takes. ``p75_cold_share`` is over the functions: of a
    quarter of them a greater share of the invocations is cold. ``setting`` says which member of the
    family it is.
    """

    policy: str
    setting: str
    cold: int
    p75_cold_share: float
    idle_byte_s: float
    memory: float = 0.0


def score(trace: Trace, windows: Windows) -> tuple[np.ndarray, float]:
    """Which moments are cold, and the memory that was idle, in byte-seconds."""
    lasted_s = trace.lasted_s
    first = np.ones(len(trace.of), dtype=bool)
    first[1:] = trace.of[1:] != trace.of[:-1]
    missed = (lasted_s < windows.begin_s) | (lasted_s > windows.end_s)
    cold = first.copy()
    cold[1:] |= missed[:-1] & ~first[1:]
    loaded_s = np.maximum(0.0, np.minimum(lasted_s, windows.end_s) - windows.begin_s)
    return cold, float(loaded_s @ trace.sizes_bytes[trace.of])


def outcome(policy: str, setting: str, trace: Trace, windows: Windows) -> Outcome:
    """What *windows* come to on *trace*, without comparing it yet."""
    cold, idle_byte_s = score(trace, windows)
    return summed(policy, setting, trace, cold, idle_byte_s)


def summed(
    policy: str, setting: str, trace: Trace, cold: np.ndarray, idle_byte_s: float
) -> Outcome:
    """The outcome of *cold*, one for each moment."""
    invocations = trace.invocations
    colds = np.bincount(trace.of[cold], minlength=trace.functions)
    shares = colds[invocations > 0] / invocations[invocations > 0]
    return Outcome(
        policy=policy,
        setting=setting,
        cold=int(cold.sum()),
        p75_cold_share=float(np.percentile(shares, 75)) if len(shares) else 0.0,
        idle_byte_s=idle_byte_s,
    )
