"""The benchmarks of the functions by name, whole and quick."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import msgspec

from testbed.bench.functions import batching, coldstart, dataplane, density
from testbed.bench.functions.generated import SHAPES, Kind
from testbed.errors import TestbedError

Name = Literal["coldstart", "density", "dataplane", "batching"]
NAMES: tuple[Name, ...] = get_args(Name)
SMALL: tuple[tuple[Kind, int], ...] = (("conv", 5), ("transformer", 5))

Result = coldstart.Coldstart | density.Density | dataplane.Dataplane | batching.Batching


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for: ``only`` some sections and ``models`` of the cold starts, or all.

    ``quick`` says whether it works, and hardly how well.
    """

    quick: bool = False
    only: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


def run(name: Name, wanted: Request, say: Callable[[str], None]) -> Result:
    """Measure *name*.

    Raises:
        TestbedError: there is no such section or model, or something that was measured failed.
    """
    quick = wanted.quick
    if name != "coldstart" and (wanted.only or wanted.models):
        raise TestbedError(f"bench {name} has no sections and no models to choose: leave them out")
    match name:
        case "dataplane":
            sizes = dataplane.QUICK_SIZES if quick else dataplane.SIZES
            rounds, calls = (2, 30) if quick else (dataplane.ROUNDS, dataplane.CALLS)
            return dataplane.run(sizes=sizes, rounds=rounds, calls=calls, say=say)
        case "batching":
            clients = batching.QUICK_CLIENTS if quick else batching.CLIENTS
            rounds, turn_s = (1, 0.5) if quick else (batching.ROUNDS, batching.TURN_S)
            return batching.run(clients=clients, rounds=rounds, turn_s=turn_s, say=say)
        case "density":
            if not quick:
                return density.run(say=say)
            return density.run(shapes=SMALL, cut_shapes=SMALL, instances=2, cycles=20, say=say)
        case "coldstart":
            return _coldstart(wanted, say)


def _coldstart(wanted: Request, say: Callable[[str], None]) -> coldstart.Coldstart:
    quick = wanted.quick
    sections = wanted.only or coldstart.SECTIONS
    if lost := [each for each in sections if each not in coldstart.SECTIONS]:
        raise TestbedError(
            f"there is no section {lost[0]!r}: it is one of {', '.join(coldstart.SECTIONS)}"
        )
    shapes = _shapes(wanted.models) or (SMALL if quick else tuple(SHAPES))
    return coldstart.run(
        shapes=shapes,
        rounds=2 if quick else coldstart.ROUNDS,
        rounds_dropped=1 if quick else coldstart.ROUNDS_DROPPED,
        burst_of=(4 if quick else coldstart.BURST_OF) if "burst" in sections else 0,
        with_ray="ray" in sections,
        say=say,
    )


def show(result: Result) -> None:
    """Print it as tables."""
    match result:
        case coldstart.Coldstart():
            coldstart.show(result)
        case density.Density():
            density.show(result)
        case dataplane.Dataplane():
            dataplane.show(result)
        case batching.Batching():
            batching.show(result)


def _shapes(names: Sequence[str]) -> tuple[tuple[Kind, int], ...]:
    by_name = {f"{kind}-{megabytes}": (kind, megabytes) for kind, megabytes in SHAPES}
    if lost := [name for name in names if name not in by_name]:
        raise TestbedError(f"there is no model {lost[0]!r}: it is one of {', '.join(by_name)}")
    return tuple(by_name[name] for name in names)
