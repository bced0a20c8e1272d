"""Which way each frame of a stream goes. Pure."""

from collections.abc import Iterator, Sequence

from testbed.bench.rig.orders import Share


def interleaved(shares: Sequence[Share]) -> Iterator[str]:
    """The ways of frames 1, 2, 3 ..., without end.

    After n frames each way has had its share of n to within one frame (for two ways; of k ways
    none is more than k - 1 frames behind): the next frame goes the way that lags its share most, a
    tie to the first named. Smooth weighted round-robin, as in nginx's upstream module.

    Raises:
        ValueError: no share, or one that is not above 0.
    """
    if not shares or any(not share.share > 0 for share in shares):
        raise ValueError(f"a schedule needs shares above 0, got {list(shares)}")
    total = sum(share.share for share in shares)
    owed = [0.0] * len(shares)
    while True:
        owed = [due + share.share / total for due, share in zip(owed, shares, strict=True)]
        # Rounding, so that equal shares stay equal however they were summed.
        most = max(range(len(shares)), key=lambda i: (round(owed[i], 9), -i))
        owed[most] -= 1.0
        yield shares[most].way


def steady_fps(done_s: Sequence[float], fill: int) -> float | None:
    """Frames per second between completions, the first *fill* of them left out.

    *done_s* are the times of completion in order. None where fewer than two are left, or they
    came at one moment.
    """
    counted = done_s[fill - 1 :]  # the last of the filling is where the clock starts
    if len(counted) < 2 or counted[-1] <= counted[0]:
        return None
    return (len(counted) - 1) / (counted[-1] - counted[0])
