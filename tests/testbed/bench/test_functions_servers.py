"""The benchmarks of the functions in small, with a real server."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from testbed.bench.functions import coldstart, dataplane, density, usage
from testbed.bench.functions.generated import Kind
from testbed.bench.functions.ways import ISTHMUS, PROCESS

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
MARK = "_ISTHMUS_TEST_OF_AN_END"
END_S = 60.0


@pytest.fixture(autouse=True)
def _restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are not looked at here, so nobody waits for a quiet machine."""
    monkeypatch.setattr(usage, "QUIET_LIMIT_S", 0.0)


@pytest.mark.timeout(240)
def test_cold_starts_and_a_burst_are_measured_beside_a_plain_process() -> None:
    result = coldstart.run(
        shapes=[("conv", 5)],
        rounds=1,
        rounds_dropped=1,
        burst_of=2,
        with_ray=False,
        say=lambda _: None,
    )
    assert [(row.cache, row.way) for row in result.rows] == [
        (cache, way) for cache in ("warm", "dropped") for way in (ISTHMUS, PROCESS, coldstart.READ)
    ]
    assert all(row.cold_ms > 0 for row in result.rows)
    assert [(burst.way, burst.failed) for burst in result.bursts] == [(ISTHMUS, 0), (PROCESS, 0)]
    assert len(result.terms) == 2
    assert all(0 < terms.network_ms < terms.client_ms for terms in result.terms)


@pytest.mark.timeout(240)
def test_memory_is_measured_by_instance_by_cut_and_over_cycles() -> None:
    small: tuple[tuple[Kind, int], ...] = (("conv", 5),)
    result = density.run(shapes=small, cut_shapes=small, instances=2, cycles=3, say=lambda _: None)
    assert sum(part.count for part in result.idle) >= 3
    assert [each.what for each in result.held] == [density.INSTANCE, density.CUT]
    assert all(each.pss_mb > 0 and each.beside_mb > 0 for each in result.held)
    assert [each.count for each in result.cycles] == [3, 3]


@pytest.mark.timeout(240)
def test_calls_are_measured_beside_a_plain_server() -> None:
    result = dataplane.run(
        sizes={"40 KB": 40_000}, rounds=1, calls=20, with_ray=False, say=lambda _: None
    )
    ways = [dataplane.ISTHMUS, dataplane.SERVER, dataplane.TUNED]
    assert [row.way for row in result.rows] == ways
    assert all(0 < row.p50_ms <= row.p95_ms for row in result.rows)
    assert [target.value for target in result.targets] == [pytest.approx(result.rows[0].over)]


def marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                yield process
        except psutil.Error:
            continue  # it has just ended, or is another user's


@pytest.mark.timeout(180)
def test_a_benchmark_that_is_told_to_end_leaves_no_process_behind(tmp_path: Path) -> None:
    mark = os.fspath(tmp_path)
    bench = subprocess.Popen(
        [sys.executable, "-m", "isthmus", "testbed", "bench", "dataplane", "--quick"],
        cwd=ROOT,
        env={**os.environ, MARK: mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with bench:
        try:
            assert bench.stderr is not None
            assert any("rounds of" in line for line in bench.stderr)  # all servers run by then
            assert len(list(marked(mark))) > 4
            bench.send_signal(signal.SIGTERM)
            bench.stderr.read()
            assert bench.wait(END_S) == 128 + signal.SIGTERM
            _, left = psutil.wait_procs(list(marked(mark)), timeout=5)
            assert [process.cmdline() for process in left] == []
        finally:
            for process in marked(mark):
                process.kill()
