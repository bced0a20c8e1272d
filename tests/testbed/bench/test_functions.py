"""What the benchmarks of the functions are made of, without a server."""

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest

from protos.timing import Timing
from testbed.bench.functions import batching, coldstart, density, menu, pagecache, usage
from testbed.bench.functions.coldstart import READ, Row, Terms, seen_rows, seen_terms
from testbed.bench.functions.gateway import check
from testbed.bench.functions.generated import Kind, alike, generate, identity
from testbed.bench.functions.peers.engine import Engine
from testbed.bench.functions.suffixes import suffixes
from testbed.bench.functions.ways import ISTHMUS, SERVE, Cold, PlainProcesses
from testbed.bench.targets import Target
from testbed.errors import TestbedError
from testbed.processes import Processes


@pytest.mark.parametrize("kind", ["conv", "transformer"])
def test_a_generated_model_is_as_large_as_it_says_and_the_same_every_time(
    kind: Kind, tmp_path: Path
) -> None:
    model = generate(kind, 5, tmp_path)
    first = model.path.read_bytes()
    assert len(first) == pytest.approx(5e6, rel=0.1)
    assert generate(kind, 5, tmp_path).path.read_bytes() == first
    answer = model.answer()
    assert answer.shape == (1, 16)
    assert np.isfinite(answer).all()
    other = generate(kind, 5, tmp_path, seed=1)
    assert other.name != model.name
    assert not alike(other.answer(), answer)


@pytest.mark.parametrize("kind", ["conv", "transformer"])
def test_every_tail_of_a_generated_model_gives_the_whole_models_answer(
    kind: Kind, tmp_path: Path
) -> None:
    model = generate(kind, 5, tmp_path)
    whole = model.answer()
    tails = suffixes(model, tmp_path, most=8)
    assert [tail.cut for tail in tails] == list(model.cuts)
    for tail in tails:
        assert alike(tail.answer(), whole)
        assert tail.path.stat().st_size < model.path.stat().st_size


def test_fewer_tails_than_there_are_cuts_lie_evenly(tmp_path: Path) -> None:
    model = generate("conv", 5, tmp_path)
    few = suffixes(model, tmp_path, most=2)
    assert [tail.cut for tail in few] == [model.cuts[0], model.cuts[2]]


def test_rounding_is_no_other_answer_but_a_thousandth_is() -> None:
    right = np.array([[1.0, -4.0]], np.float32)
    assert alike(right * np.float32(1 + 1e-4), right)
    assert not alike(right + np.float32(0.02), right)
    assert not alike(right.ravel(), right)
    with pytest.raises(TestbedError, match="answered wrongly"):
        check("a model", -right, right)


def test_the_identity_gives_back_what_it_takes(tmp_path: Path) -> None:
    row = np.arange(1000, dtype=np.float32)
    assert np.array_equal(Engine(identity(tmp_path, row.size)).run(row), row)


def test_a_dropped_file_is_gone_from_the_page_cache_and_a_read_one_is_there() -> None:
    # In the user's cache folder: what lies in a tmpfs, as /tmp may be, has nowhere else to be.
    home = Path.home() / ".cache"
    home.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home) as text:
        path = Path(text) / "weights.bin"
        path.write_bytes(os.urandom(1 << 20))
        assert pagecache.resident(path) == 1.0
        pagecache.drop([path])
        assert pagecache.resident(path) < 0.05
        assert pagecache.read_s([path]) > 0
        assert pagecache.resident(path) == 1.0


def test_only_files_that_fill_a_page_count(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "small").write_bytes(b"x")
    large = tmp_path / "inner" / "large"
    large.write_bytes(bytes(8192))
    (tmp_path / "link").symlink_to(large)
    assert pagecache.files(tmp_path) == (large,)
    assert pagecache.files(large) == (large,)


def test_proportional_memory_is_what_a_process_holds_and_nothing_once_it_has_gone() -> None:
    me = psutil.Process()
    before = usage.pss_bytes(me.pid)
    held = np.ones(4_000_000, np.float64)
    assert usage.pss_bytes(me.pid) - before > 0.9 * held.nbytes
    assert usage.pss_bytes(me.pid) <= 1.05 * me.memory_info().rss
    assert usage.pss_bytes(2**22 + 1) == 0  # above the largest number that Linux gives
    assert usage.tree(2**22 + 1) == ()


def test_the_slope_is_that_of_the_line_through_the_values() -> None:
    assert usage.slope([5.0, 7.0, 9.0, 11.0]) == pytest.approx(2.0)
    assert usage.slope([3.0, 3.0, 3.0]) == 0.0
    assert usage.slope([1.0]) == 0.0


def test_a_plain_process_answers_opens_more_and_ends_with_its_block(tmp_path: Path) -> None:
    conv, other = generate("conv", 5, tmp_path), generate("transformer", 5, tmp_path)
    with Processes(tmp_path / "logs") as processes:
        plain = PlainProcesses(processes, {each.name: each.answer() for each in (conv, other)})
        with contextlib.ExitStack() as stack:
            peer = plain.started(conv.path, stack)
            (pid,) = plain.pids
            for model in (conv, other):
                peer.open(model.path, beside=model is other)
                answer = np.frombuffer(peer.answer(model.body), np.float32).reshape(1, -1)
                assert alike(answer, model.answer())
        assert plain.pids == ()
        assert not psutil.pid_exists(pid)
        found = plain.cold(conv, lambda: None, warm=2)
        assert len(found.warm_s) == 2
        assert found.first_s > max(found.warm_s)
        assert plain.burst(conv, 2) > 0
        assert processes.left_running() == ()


def a_cold(first_s: float, warm_s: float, timing: Timing | None = None) -> Cold:
    """As a client saw it: twice warm, each with a network of 1 ms around its terms."""
    again = Timing(infer_s=warm_s - 0.001)
    return Cold(
        first_s=first_s,
        warm_s=(warm_s, warm_s),
        timing=timing,
        warm_timing=(again, again) if timing else (),
    )


def test_a_cold_start_is_the_first_answer_minus_a_warm_one(tmp_path: Path) -> None:
    model = generate("conv", 5, tmp_path)
    timing = Timing(init_s=0.010, load_s=0.006, infer_s=0.010)
    seen = coldstart.Seen(
        model=model,
        cache="dropped",
        colds={
            ISTHMUS: [a_cold(0.030, 0.010, timing) for _ in range(3)],
            SERVE: [a_cold(first, 0.010) for first in (1.01, 2.01, 6.01)],
        },
        read_s=[0.005, 0.004, 0.010],
    )
    ours, serve, read = seen_rows(seen)
    assert (ours.cold_ms, ours.warm_ms, ours.over) == (20.0, 10.0, 1.0)
    assert (serve.cold_ms, serve.low_ms, serve.high_ms, serve.over) == (2000.0, 1000.0, 6000.0, 100)
    assert (read.way, read.cold_ms, read.over) == (READ, 5.0, 0.25)
    terms = seen_terms(seen)
    assert (terms.network_ms, terms.client_ms) == (1.0, 30.0)
    assert terms.apart == pytest.approx(0.1, abs=1e-4)  # 3 of 30 ms are nobody's
    assert terms.terms_ms["init"] == 10.0


def a_row(way: str, cold_ms: float, *, model: str = "conv-5", cache: str = "warm") -> Row:
    return Row(
        model=model, cache="dropped" if cache == "dropped" else "warm", way=way, cold_ms=cold_ms,
        low_ms=0, high_ms=0, first_ms=0, warm_ms=0, over=cold_ms / 20, rounds=1,
    )  # fmt: skip


def test_targets_hold_the_worst_to_their_lines() -> None:
    rows = [
        a_row(ISTHMUS, 20),
        a_row(ISTHMUS, 30, model="conv-100"),
        a_row(ISTHMUS, 50, model="conv-500"),
        a_row(SERVE, 2000),
        a_row(SERVE, 900, model="conv-100"),
        a_row(ISTHMUS, 20, cache="dropped"),
        a_row(READ, 0.01, cache="dropped"),
    ]
    terms = Terms(model="conv-5", cache="warm", terms_ms={}, network_ms=0, client_ms=20, apart=0.04)
    sizes = {"conv-5": 5, "conv-100": 100, "conv-500": 500}
    found = coldstart.targets_of(rows, [terms], sizes)
    assert [(each.value, each.target, each.met) for each in found] == [
        (30, 25, False),
        (50, 60, True),
        (45, 50, False),
        (2000, 1.5, False),
        (0.04, 0.05, True),
    ]


def test_growth_counts_from_the_first_fifth_of_the_cycles_on() -> None:
    model_name, sizes = "conv-5", [100e6, 120e6, *[120e6 + 1e5 * n for n in range(8)]]
    found = density.flat("Isthmus", model_name, 100, sizes)
    assert (found.first_mb, found.last_mb) == (100.0, 120.7)
    assert found.growth_mb == pytest.approx(0.9)  # 0.1 MB from each of ten looks to the next


@pytest.mark.parametrize(
    ("name", "wanted", "sentence"),
    [
        ("coldstart", menu.Request(only=("sleep",)), "no section 'sleep': it is one of rounds"),
        ("coldstart", menu.Request(models=("conv-7",)), "no model 'conv-7': it is one of conv-5"),
        ("density", menu.Request(only=("rounds",)), "density has no sections"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(
    name: menu.Name, wanted: menu.Request, sentence: str
) -> None:
    with pytest.raises(TestbedError, match=sentence):
        menu.run(name, wanted, lambda _: None)


def test_a_target_says_what_it_is_of() -> None:
    found = coldstart.targets_of([a_row(ISTHMUS, 20)], [], {"conv-5": 5})
    assert found == (
        Target(
            name="cold start up to 100 MB, cache warm, at most", value=20, unit="ms", target=25,
            met=True,
        ),
    )  # fmt: skip


def turns(on: float, off: float = 100.0) -> dict[str, batching.Turn]:
    """With *on* and *off* requests a second."""
    return {
        way: batching.Turn(requests_s=rate, p50_s=1 / rate, p95_s=2 / rate)
        for way, rate in ((batching.ON, on), (batching.OFF, off))
    }


def test_batching_is_held_against_itself_off_in_the_same_round() -> None:
    """What the machine did in one round is no figure of another."""
    off, on = batching.rows_of("m", 4, [turns(150), turns(30, off=20), turns(300, off=200)])
    assert (off.batching, off.requests_s, off.over_s, off.over_p50) == ("off", 100, 1, 1)
    assert (on.batching, on.requests_s, on.over_s, on.over_p50) == ("on", 150, 1.5, 0.667)
    assert (on.p50_ms, on.p95_ms) == (6.667, 13.333)


def test_batching_is_to_cost_a_lone_client_nothing_and_nobody_much() -> None:
    rows = [
        *batching.rows_of("gains", 1, [turns(94)]),
        *batching.rows_of("gains", 16, [turns(150)]),
        *batching.rows_of("other", 1, [turns(99)]),
        *batching.rows_of("other", 16, [turns(94)]),
    ]
    found = batching.targets_of(rows, "gains", 16)
    assert [(each.value, each.target, each.met) for each in found] == [
        (1.064, 1.05, False),
        (1.01, 1.05, True),
        (0.94, 0.95, False),
        (1.5, 1.2, True),
    ]
