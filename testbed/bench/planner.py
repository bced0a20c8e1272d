"""``isthmus testbed bench planner``: is the plan exact, what does finding it cost, does it pay."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from testbed import models
from testbed.bench import overlap, prediction, regret, streams
from testbed.bench.exactness import Exactness
from testbed.bench.exactness import run as run_exactness
from testbed.bench.survey import BIG, Survey
from testbed.bench.survey import run as run_survey
from testbed.bench.targets import Target, at_most, show_targets

CASES = 2000
Section = Literal["exactness", "planning", "prediction", "regret", "overlap", "streams"]
SECTIONS: tuple[Section, ...] = get_args(Section)
_COLUMNS = 140


class PlannerBench(msgspec.Struct, frozen=True, kw_only=True):
    """What was run of it; a section that was not is empty."""

    exactness: tuple[Exactness, ...] = ()
    survey: Survey | None = None
    predicted: prediction.Prediction | None = None
    chosen: regret.Regret | None = None
    hidden: overlap.Overlap | None = None
    flown: streams.Streams | None = None
    targets: tuple[Target, ...] = ()


def bench_planner(
    *,
    sections: Sequence[Section] = SECTIONS,
    cases: int = CASES,
    names: Sequence[str] = (),
    say: Callable[[str], None],
) -> PlannerBench:
    """Run *sections*; *say* is told how far it is.

    Args:
        sections: all by default.
        cases: random graphs for the exactness.
        names: real models; by default all that are installed are planned, and those that each
            measured section names are measured.
        say: takes a line.
    """
    named = tuple(names)
    names = named or [name for name in models.names() if models.missing(name) is None]
    exact = run_exactness(cases, say) if "exactness" in sections else ()
    seen = run_survey(names, say) if "planning" in sections else None
    told = (
        prediction.run(names=named or prediction.MODELS, say=say)
        if "prediction" in sections
        else None
    )
    chosen = regret.run(names=named or regret.MODELS, say=say) if "regret" in sections else None
    hidden = overlap.run(names=named or overlap.MODELS, say=say) if "overlap" in sections else None
    flown = streams.run(names=named or streams.MODELS, say=say) if "streams" in sections else None
    targets = [*_exact(exact), *(_planned(seen) if seen else ())]
    targets += told.targets if told else ()
    for each in (chosen, hidden, flown):
        targets += each.targets if each else ()
    return PlannerBench(
        exactness=exact,
        survey=seen,
        predicted=told,
        chosen=chosen,
        hidden=hidden,
        flown=flown,
        targets=tuple(targets),
    )


def show(result: PlannerBench) -> None:
    """Print it as tables."""
    console = Console(width=_COLUMNS)
    if result.exactness:
        table = _table("random graphs against every plan there is", "question")
        for name in ("cases", "wrong", "re-costed differently"):
            table.add_column(name, justify="right")
        for row in result.exactness:
            table.add_row(row.question, *map(str, (row.cases, row.wrong, row.recosted_differently)))
        console.print(table)
    if result.survey is not None:
        console.print(_planning(result.survey))
        console.print(_answers(result.survey))
    if result.predicted is not None:
        console.print(prediction.show(result.predicted))
    if result.chosen is not None:
        console.print(regret.show(result.chosen))
        for reason in result.chosen.skipped:
            console.print(f"skipped: {reason}")
    if result.hidden is not None:
        console.print(overlap.show(result.hidden))
        console.print("\n".join(overlap.notes(result.hidden)))
    if result.flown is not None:
        console.print(streams.show(result.flown))
    show_targets(console, result.targets)


def _exact(rows: Sequence[Exactness]) -> list[Target]:
    if not rows:
        return []
    return [
        at_most("wrong plans", sum(row.wrong for row in rows), 0),
        at_most("re-costed differently", sum(row.recosted_differently for row in rows), 0),
    ]


def _planned(seen: Survey) -> list[Target]:
    rows = [row for row in seen.planning if row.model != BIG]
    big = [row.cut_ms for row in seen.planning if row.model == BIG]
    tables = [row.table_over_cut for row in rows if row.table_over_cut is not None]
    lookups = [row.lookup_us for row in rows if row.lookup_us is not None]
    ratios = [each.neurosurgeon for each in seen.answers]
    ratios += [each.dads for each in seen.answers]
    return [
        at_most("slowest cut of a real model", max(row.cut_ms for row in rows), 50, "ms"),
        at_most(
            "the same with the search for plans that are sent in chunks, table included",
            max(row.cut_ms + (row.ahead_ms or 0.0) for row in rows),
            50,
            "ms",
        ),
        at_most("cut of 10,000 ops", max(big), 1000, "ms"),
        at_most("table over one cut of a real model", max(tables), 20, "x"),
        at_most("looking a plan up", max(lookups), 20, "us"),
        at_most("models where networkx finds another value", 0 if seen.same_as_networkx else 1, 0),
        at_most("plan over the best of the field's methods", 1 / min(ratios), 1.0001, "x"),
    ]


def _planning(seen: Survey) -> Table:
    table = _table("planning one model (LTE, device at a tenth of this machine)", "model")
    for name in (
        "ops",
        "one cut ms",
        "table ms",
        "table / cut",
        "ahead ms",
        "look-up us",
        "networkx / ours",
    ):
        table.add_column(name, justify="right")
    for row in seen.planning:
        cells = (
            row.cut_ms,
            row.table_ms,
            row.table_over_cut,
            row.ahead_ms,
            row.lookup_us,
            row.networkx_over_cut,
        )
        table.add_row(row.model, str(row.ops), *("" if c is None else f"{c:g}" for c in cells))
    return table


def _answers(seen: Survey) -> Table:
    table = _table("the plan, and what the others take of its latency (predicted)", "model")
    table.add_column("link")
    table.add_column("plan")
    for name in ("kB", "ms", "device", "cloud", "Neurosurgeon", "DADS", "(claims)"):
        table.add_column(name, justify="right")
    for row in seen.answers:
        others = (row.device_only, row.cloud_only, row.neurosurgeon, row.dads, row.dads_claims)
        what = row.choice if row.kind != "split" else f"split {row.choice}"
        table.add_row(
            row.model, row.link, what, f"{row.kilobytes:g}", f"{row.ms:g}",
            *(f"{ratio:.2f}x" for ratio in others),
        )  # fmt: skip
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(first)
    return table
