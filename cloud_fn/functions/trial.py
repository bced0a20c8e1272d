"""Whether requests are answered together as each alone, and how long that takes: tried out.

For the whole network that is done once, when a version is published for a kind of machine.
"""

import itertools
import logging
import time
from collections.abc import Callable, Sequence

import numpy as np

from cloud_fn.functions.curve import Curve
from cloud_fn.functions.joining import Arrays, Form, Run, Unbatchable
from planner.errors import PlannerError
from planner.graph import UNKNOWN, TensorInfo
from planner.infos import random_inputs

log = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 32)
TOLERANCE = 1e-4
"""By how much, relative to an output's largest magnitude (at least 1), a batch may answer other
than each of its rows alone: kernels add up in another order."""

_LENGTH = 64
_SHARES = (0.25, 0.5)
_REPEATS = 5
BUDGET_S = 20.0
_LEAST_S = 1e-9


def samples(form: Form, *, length: int = _LENGTH, seed: int = 0) -> tuple[Arrays, Arrays]:
    """Two different requests of one row; where requests are padded, one is shorter.

    Raises:
        Unbatchable: an input is of a type that nothing is known of.
    """
    try:
        shorter = max(1, length * 5 // 8)
        return _sample(form, seed, length), _sample(form, seed + 1, shorter)
    except PlannerError as error:
        raise Unbatchable(str(error)) from error


def prove(run: Run, form: Form, given: tuple[Arrays, Arrays], *, single: Run | None = None) -> Form:
    """Check that the two requests are answered the same together as each alone.

    Args:
        run: the piece.
        form: its form.
        given: the requests.
        single: what answers a request that is alone, where it is another than *run*.

    Returns:
        *form*, where it is now known which outputs are as long as the padded inputs.

    Raises:
        Unbatchable: they are not.
    """
    extents = [extent for each in given if (extent := form.extent(each)) is not None]
    if len(extents) != 2 or extents[0].key != extents[1].key:
        raise Unbatchable("the two requests do not fit together: give two of the same kind")
    try:
        alone = [(single or run)(each) for each in given]
        together = run(form.join(given, extents))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise Unbatchable(f"the model cannot run on two requests at once: {reason}") from error
    proved = form
    if form.pad:
        proved = form.cutting(
            frozenset(
                name
                for name in together
                if all(
                    made[name].ndim > 1 and made[name].shape[1] == each.length
                    for made, each in zip(alone, extents, strict=True)
                )
            )
        )
    for expected, found in zip(alone, proved.split(together, extents), strict=True):
        for name in expected:
            if not _same(expected[name], found[name]):
                also = ": batching.pad must name the model's mask" if form.pad else ""
                raise Unbatchable(
                    f"output {name!r} is another when two requests run together{also}"
                )
    return proved


def measure(
    run: Run,
    form: Form,
    sizes: Sequence[int] = SIZES,
    *,
    row: Arrays | None = None,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Curve:
    """Time batches of *sizes* rows, each the least of five runs, in *budget_s* or little more.

    Sizes above 2 that would not be over by then, tried and timed once each, are left out. The
    others take turns, so that what else the machine does meanwhile, which only ever adds, is no
    more likely to be counted with one than with another.

    Args:
        run: the piece.
        form: its form.
        sizes: how many rows; one row is always timed.
        row: a request of one row, of its usual length; a random one otherwise.
        budget_s: how long it may take.
        clock: the clock.

    Raises:
        Unbatchable: the piece cannot run on one row; sizes that it cannot run on are left out.
    """
    row = samples(form)[0] if row is None else row
    extent = form.extent(row)
    if extent is None or extent.rows != 1:
        raise Unbatchable("what is timed must be one row that the model takes: give another")
    until_s = clock() + budget_s
    batches = _shortened(form, row, extent.length)
    batches += [(float(size), _repeated(row, size)) for size in sorted({1, *sizes})]
    batches = _tried(run, batches, clock, until_s)
    least_s = dict.fromkeys([size for size, _ in batches], float("inf"))
    for again in range(_REPEATS):
        for size, batch in batches:
            if again and clock() > until_s:
                break
            start_s = clock()
            run(batch)
            least_s[size] = min(least_s[size], clock() - start_s)
    rising = itertools.accumulate(least_s.values(), max, initial=_LEAST_S)
    return Curve(
        points=tuple(zip(least_s, itertools.islice(rising, 1, None), strict=True)),
        length=extent.length,
    )


def _tried(
    run: Run,
    batches: Sequence[tuple[float, Arrays]],
    clock: Callable[[], float],
    until_s: float,
) -> list[tuple[float, Arrays]]:
    """Those that the piece can run on, up to the first that it cannot or that comes too late.

    The first run of each size is not timed: memory is found then and kernels are chosen.
    """
    fine: list[tuple[float, Arrays]] = []
    began_s, took_s = clock(), 0.0
    for size, batch in batches:
        start_s = clock()
        # One of twice the rows may take twice as long, and all are run once more to be timed.
        ends_s = start_s + (start_s - began_s) + 4 * took_s
        if size > 1 and (start_s > until_s or (size > 2 and ends_s > until_s)):
            break
        try:
            run(batch)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            if size <= 1:
                raise Unbatchable(f"the model cannot run on one row: {reason}") from error
            log.warning("size not timed: rows=%d error=%s", size, reason)
            break
        took_s = clock() - start_s
        fine.append((size, batch))
    return fine


def _sample(form: Form, seed: int, length: int) -> Arrays:
    infos = {
        name: TensorInfo(
            name=name,
            datatype=info.datatype,
            shape=tuple(
                length if axis == 1 and name in form.pad else 1 if size == UNKNOWN else size
                for axis, size in enumerate(info.shape)
            ),
        )
        for name, info in form.inputs.items()
    }
    return random_inputs(infos, seed)


def _shortened(form: Form, row: Arrays, length: int) -> list[tuple[float, Arrays]]:
    """The row cut short, so that the curve knows what short ones take when they run alone."""
    lengths = sorted({int(length * share) for share in _SHARES} - {0, length})
    return [
        (
            each / length,
            {name: row[name][:, :each] if name in form.pad else row[name] for name in row},
        )
        for each in lengths
    ]


def _repeated(row: Arrays, size: int) -> Arrays:
    return {name: np.repeat(array, size, axis=0) for name, array in row.items()}


def _same(expected: np.ndarray, found: np.ndarray) -> bool:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    if expected.dtype.kind != "f":
        return bool(np.array_equal(expected, found))
    magnitude = max(1.0, float(np.max(np.abs(expected), initial=0.0, where=np.isfinite(expected))))
    within = max(TOLERANCE, 4 * float(np.finfo(expected.dtype).eps)) * magnitude
    return bool(np.allclose(expected, found, rtol=0, atol=within, equal_nan=True))
