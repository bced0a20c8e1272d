"""What a storm found, as one document."""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median, quantiles

import msgspec

from testbed.scenarios.storm.killer import Kill
from testbed.scenarios.storm.ledger import Books, Outcome

WITHIN = 0.05


class FunctionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One function's calls. Times are of right answers, as the caller measured them.

    ``init_ms`` and ``load_ms`` are medians over the cold ones that had such a wait; None without.
    """

    name: str
    requests: int
    right: int
    wrong: int
    refused: int
    unclear: int
    lost: int
    doubled: int
    cold_share: float
    p50_ms: float | None
    p95_ms: float | None
    init_ms: float | None
    load_ms: float | None


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why so many calls were refused, or their answers wrong."""

    reason: str
    calls: int


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the five terms add up to what the callers measured.

    ``gap`` is what neither the terms nor the network account for, as a share of all time measured;
    ``network_ms`` is the mean way there and back with the same bytes, probed beside every tenth
    call and weighed as the functions were asked. ``within`` is the share of answers whose own gap
    is at most 5 %.
    """

    answers: int
    measured_ms: float
    terms_ms: float
    network_ms: float
    gap: float
    within: float


class StormResult(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. ``recovered``: at the end every function answered once more, rightly."""

    schema: str = "isthmus.storm/1"
    pattern: str
    seconds: float
    nodes: int
    functions: tuple[FunctionRow, ...]
    reasons: tuple[Reason, ...]
    strays: int
    kills: int
    kills_of_busy: int
    terms: Terms | None
    recovered: bool
    tracebacks: int
    left_running: tuple[str, ...]

    @property
    def all_right(self) -> bool:
        """Each call had exactly one outcome, right or clearly refused, and nothing is left."""
        broken = sum(row.lost + row.doubled + row.wrong + row.unclear for row in self.functions)
        return not (broken or self.strays or self.left_running) and self.recovered


def function_row(name: str, number: int, books: Books) -> FunctionRow:
    """What the ledger says of function *number*."""
    outcomes = books.outcomes.get(number, ())
    right = [each for each in outcomes if each.kind == "right"]
    kinds = Counter(each.kind for each in outcomes)
    timings = [each.timing for each in right if each.timing is not None]
    return FunctionRow(
        name=name,
        requests=len(outcomes) + books.lost[number],
        right=kinds["right"],
        wrong=kinds["wrong"],
        refused=kinds["refused"],
        unclear=kinds["unclear"],
        lost=books.lost[number],
        doubled=books.doubled[number],
        cold_share=round(sum(each.cold for each in right) / max(1, len(right)), 4),
        p50_ms=_middle_ms(each.total_s for each in right),
        p95_ms=_p95_ms([each.total_s for each in right]),
        init_ms=_middle_ms(each.init_s for each in timings if each.init_s > 0),
        load_ms=_middle_ms(each.load_s for each in timings if each.load_s > 0),
    )


def reasons(books: Books) -> tuple[Reason, ...]:
    """Every reason that was given, the most frequent first."""
    counted = Counter(
        f"WRONG: {each.reason}" if each.kind == "wrong" else each.reason
        for outcomes in books.outcomes.values()
        for each in outcomes
        if each.reason
    )
    return tuple(Reason(reason=reason, calls=calls) for reason, calls in counted.most_common())


def terms(books: Books, network_s: dict[int, float]) -> Terms | None:
    """Hold the terms against the callers' clocks; *network_s* is the way alone, by function.

    None without a right answer of a function whose way was probed.
    """
    answers = [
        (each, network_s[function])
        for function, outcomes in books.outcomes.items()
        for each in outcomes
        if each.kind == "right" and function in network_s
    ]
    if not answers:
        return None
    measured_s = sum(each.total_s for each, _ in answers)
    terms_s = sum(_terms_s(each) for each, _ in answers)
    way_s = sum(way_s for _, way_s in answers)
    near = sum(
        abs(each.total_s - _terms_s(each) - way_s) <= WITHIN * each.total_s
        for each, way_s in answers
    )
    return Terms(
        answers=len(answers),
        measured_ms=round(measured_s / len(answers) * 1e3, 3),
        terms_ms=round(terms_s / len(answers) * 1e3, 3),
        network_ms=round(way_s / len(answers) * 1e3, 3),
        gap=round((measured_s - terms_s - way_s) / measured_s, 4),
        within=round(near / len(answers), 4),
    )


def busy(kills: Sequence[Kill]) -> int:
    """How many of them were at work."""
    return sum(each.busy for each in kills)


def _terms_s(outcome: Outcome) -> float:
    assert outcome.timing is not None
    return outcome.timing.total_s


def _middle_ms(seconds: Iterable[float]) -> float | None:
    values = list(seconds)
    return round(median(values) * 1e3, 2) if values else None


def _p95_ms(seconds: Sequence[float]) -> float | None:
    if len(seconds) < 2:
        return _middle_ms(seconds)
    return round(quantiles(seconds, n=20, method="inclusive")[-1] * 1e3, 2)
