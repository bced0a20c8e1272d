"""Several profiles of one model on one kind of machine, made into one. Pure."""

from collections.abc import Callable, Sequence

import msgspec

from planner.errors import PlannerError
from planner.profiles import Anchor, CodecRate, Machine, OpTime, Part, Profile

_SAME = ("cpu", "threads", "provider", "accelerator", "onnxruntime")
"""What two machines must share for their times to be those of one kind."""


def merged(profiles: Sequence[Profile]) -> Profile:
    """The mean of *profiles*, each counted by its runs; the spread is the widest.

    A codec, an anchor or a tensor's size that only some hold is kept from those. What is described
    but not measured (the machine's system, the moment) is the last one's.

    Args:
        profiles: at least one.

    Raises:
        PlannerError: they are of two models, or were taken on two kinds of machine.
    """
    last = profiles[-1]
    for other in profiles[:-1]:
        if other.digest != last.digest:
            raise PlannerError(
                f"profiles of {other.model} and {last.model} are of models with other bytes: "
                "merge those of one model"
            )
        for name in _SAME:
            here, there = (getattr(each.machine, name) for each in (other, last))
            if here != there:
                raise PlannerError(
                    f"the profiles' machines differ in {name} ({here!r} and {there!r}): merge "
                    "those of one kind of machine, and give two kinds as --device and --cloud"
                )
    total = sum(each.runs for each in profiles)

    def mean(read: Callable[[Profile], float]) -> float:
        return sum(read(each) * each.runs for each in profiles) / total

    places = {op.name: at for at, op in enumerate(last.ops)}
    if any({op.name for op in each.ops} != places.keys() for each in profiles):
        raise PlannerError("the profiles' ops differ: profile the model again with this version")
    by_name = [{op.name: op for op in each.ops} for each in profiles]
    return msgspec.structs.replace(
        last,
        runs=total,
        whole_s=mean(lambda each: each.whole_s),
        spread_s=(
            min(each.spread_s[0] for each in profiles),
            max(each.spread_s[1] for each in profiles),
        ),
        ops=tuple(
            _op(op, [ops[op.name] for ops in by_name], [each.runs for each in profiles])
            for op in last.ops
        ),
        codecs=_codecs(profiles),
        tensors=next((each.tensors for each in reversed(profiles) if each.tensors), ()),
        anchors=_anchors(profiles),
        local_s=_known(profiles, lambda each: each.local_s),
        remote_s=_known(profiles, lambda each: each.remote_s),
        message_s=mean(lambda each: each.message_s),
    )


def describe(machine: Machine) -> str:
    """A machine in words."""
    where = machine.accelerator or machine.cpu
    return f"{where}, {machine.threads} thread{'s' if machine.threads > 1 else ''}"


def _op(op: OpTime, all_: Sequence[OpTime], runs: Sequence[int]) -> OpTime:
    def mean(part: Part) -> float:
        return _mean([(each.as_part(part), n) for each, n in zip(all_, runs, strict=True)])

    one_time = all(each.tail_s is None for each in all_)
    tail_s = None if one_time else mean("tail")
    return msgspec.structs.replace(op, seconds=mean("head"), tail_s=tail_s)


def _codecs(profiles: Sequence[Profile]) -> tuple[CodecRate, ...]:
    found: dict[str, list[tuple[CodecRate, int]]] = {}
    for each in profiles:
        for rate in each.codecs:
            found.setdefault(rate.codec, []).append((rate, each.runs))
    return tuple(
        CodecRate(
            codec=codec,
            **{
                name: _mean([(getattr(rate, name), runs) for rate, runs in rates])
                for name in CodecRate.__struct_fields__
                if name != "codec"
            },
        )
        for codec, rates in found.items()
    )


def _anchors(profiles: Sequence[Profile]) -> tuple[Anchor, ...]:
    found: dict[tuple[str, ...], list[tuple[Anchor, int]]] = {}
    for each in profiles:
        for anchor in each.anchors:
            found.setdefault(anchor.crossing, []).append((anchor, each.runs))
    merged_ = [
        Anchor(
            crossing=crossing,
            raw_bytes=anchors[0][0].raw_bytes,
            **{
                name: _mean([(getattr(anchor, name), runs) for anchor, runs in anchors])
                for name in ("head_s", "tail_s", "head_expected_s", "tail_expected_s")
            },
        )
        for crossing, anchors in found.items()
    ]
    return tuple(sorted(merged_, key=lambda anchor: anchor.head_expected_s))


def _known(profiles: Sequence[Profile], read: Callable[[Profile], float]) -> float:
    """The mean over those that know it; 0 where none does."""
    found = [(read(each), each.runs) for each in profiles if read(each)]
    return _mean(found) if found else 0.0


def _mean(weighted: Sequence[tuple[float, int]]) -> float:
    return sum(value * weight for value, weight in weighted) / sum(weight for _, weight in weighted)
