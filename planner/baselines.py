"""The honest others: all on the device, and the cloud alone with each form of the input."""

from collections.abc import Sequence

from planner.costs import Costs
from planner.model import Model
from planner.plans import Plan
from planner.steps import SOURCE
from protos import codecs

DEVICE_ONLY = "device-only"


def baselines(model: Model, wide: Costs, lossy: Sequence[str]) -> list[Plan]:
    """Every baseline as a plan, whether or not it may be chosen.

    Args:
        model: with or without steps.
        wide: costs under which every codec may be used.
        lossy: the lossy codecs to show beside the lossless ones.
    """
    graph, up_bps = model.graph, wide.world.link.up_bps
    out = [wide.plan(frozenset(range(len(graph.ops))), up_bps, id_=DEVICE_ONLY)]

    def cloud_only(id_: str, tensors: Sequence[str], codec: str) -> None:
        head, _ = graph.needed(tensors, ())
        found = frozenset(head)
        possible = all(wide.way(name, codec) for name in tensors)
        if possible and set(graph.boundary(found)) == set(tensors):
            out.append(wide.plan(found, up_bps, id_=id_, codec=codec))

    rest = [name for name in model.source if name != SOURCE]
    if SOURCE in model.source and model.steps:
        uint8 = pixels(model)
        cloud_only("cloud-fp32", [info.name for info in model.inputs], "raw")
        if uint8 is not None:
            cloud_only("cloud-uint8", [uint8, *rest], "raw")
        cloud_only("cloud-jpeg", [*model.source], "raw")
        inputs = [uint8] if uint8 is not None and not rest else []
    else:
        cloud_only("cloud-only", [*model.source], "raw")
        inputs = [*model.source]
    for codec in lossy if inputs else ():
        cloud_only(f"cloud-{short(codec)}", inputs, codec)
    return out


def pixels(model: Model) -> str | None:
    """The last form of the input that is an 8-bit image, None where there is none."""
    found = None
    for op in model.graph.ops:
        for name in op.outputs:
            info = model.graph.info(name)
            if op.is_step and info.datatype == "UINT8" and len(info.shape) == 3:
                found = name
    return found


def short(codec: str) -> str:
    """``jpeg:90`` as jpeg90, ``int8+zstd`` as int8-zstd."""
    return str(codecs.parse(codec)).replace(":", "").replace("+", "-")
