"""A model as people read it in a terminal: its figures, and its narrow places as a chart."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from planner import words
from planner.graph import TensorInfo
from planner.model import Model
from planner.narrow import Place, valleys
from planner.terminal import Stretch, on_log_scale
from planner.work import work_of

MOST_PLACES = 24
_SCALE = 28


def explain_graph(model: Model) -> Iterator[RenderableType]:
    """What the model takes and gives, and where little crosses, however large it is."""
    graph = model.graph
    network = sum(not op.is_step for op in graph.ops)
    work = work_of(model)
    figures = f"{network} ops, {len(graph.ops) - network} steps"
    if work is not None:
        figures += f", {_count(sum(work))} multiply-adds"
    yield Text(f"{model.name}  {model.digest[:12]}  {figures}", style="bold")
    yield Text("inputs   " + _listed([_tensor(info) for info in model.inputs]))
    yield Text("outputs  " + _listed([_tensor(info) for info in model.outputs]))
    if model.source != tuple(info.name for info in model.inputs):
        yield Text(f"starts from {_listed(model.source)}, answers {_listed(model.answers)}")
    if model.assumed:
        assumed = ", ".join(f"{name}={size}" for name, size in model.assumed.items())
        yield Text(f"assumed  {assumed}  (give --dim NAME=SIZE)")
    places = valleys(graph, MOST_PLACES)
    if not places:
        yield Text("no place is known where it could be cut: no tensor's size is fixed")
        return
    yield _chart(model, places, work)
    yield Text("< fewer bytes than the first of them; the scale is logarithmic", style="dim")


def _chart(model: Model, places: Sequence[Place], work: Sequence[int] | None) -> Table:
    graph = model.graph
    done = [0, *accumulate(work or [not op.is_step for op in graph.ops])]
    whole = done[-1] or 1
    sizes = [place.nbytes for place in places]
    low, high = min(sizes) / 1.5, max(sizes)
    input_at = on_log_scale(sizes[0], low, high)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    table.add_column("after", justify="right", no_wrap=True)
    table.add_column("op", no_wrap=True)
    table.add_column("work" if work is not None else "ops", justify="right", no_wrap=True)
    table.add_column("crosses", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("narrow places", no_wrap=True)
    table.add_column("tensors", overflow="fold", ratio=1)
    for place in places:
        narrower = place.nbytes < sizes[0]
        end = on_log_scale(place.nbytes, low, high)
        table.add_row(
            str(place.after),
            graph.ops[place.after - 1].kind.removeprefix("step:") if place.after else "input",
            f"{done[place.after] / whole:.0%}",
            words.show_bytes(place.nbytes),
            "<" if narrower else "",
            Stretch(
                begin=0.0,
                end=end,
                mark=input_at,
                width=_SCALE,
                style="green" if narrower else "",
            ),
            Text(_listed(place.tensors, 2)),
        )
    return table


def _listed(names: Sequence[str], most: int = 6) -> str:
    """*names*, those beyond *most* only counted."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _tensor(info: TensorInfo) -> str:
    return f"{info.name} {info.datatype}{list(info.shape)}"


def _count(number: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
