"""A slow device: how slow, where the quota goes, and that nothing of it stays."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed import device as device_module
from testbed.cgroups import PREFIX, Group, Place, Quota, make_group, places, sweep
from testbed.device import Device, last_core, quota_of
from testbed.errors import TestbedError
from testbed.processes import Processes

V1_MOUNTS = """\
proc /proc proc rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
"""


def why_not() -> str:
    made = make_group(quota_of(0.5))
    if isinstance(made, str):
        return made
    made.remove()
    return ""


REASON = why_not()
needs_quota = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(REASON), reason=f"no CPU quota can be set here ({REASON})"),
]


@pytest.mark.parametrize(
    ("fraction", "quota"),
    [
        (0.1, Quota(quota_us=1_000, period_us=10_000)),
        (0.25, Quota(quota_us=1_000, period_us=4_000)),
        (0.5, Quota(quota_us=2_000, period_us=4_000)),
        (2.0, Quota(quota_us=8_000, period_us=4_000)),
        (0.001, Quota(quota_us=1_000, period_us=1_000_000)),
    ],
)
def test_the_quota_is_the_smoothest_that_linux_takes(fraction: float, quota: Quota) -> None:
    assert quota_of(fraction) == quota


@given(st.floats(0.001, 64))
def test_any_quota_is_within_linux_limits_and_close_to_the_fraction(fraction: float) -> None:
    quota = quota_of(fraction)
    assert quota.quota_us >= 1_000
    assert 1_000 <= quota.period_us <= 1_000_000
    assert quota.quota_us / quota.period_us == pytest.approx(fraction, rel=2e-3)


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1e-6, 1e6, float("nan")])
def test_a_fraction_that_no_device_can_have_is_refused(fraction: float) -> None:
    with pytest.raises(TestbedError, match=r"a device cannot have .* of a core: give 0\.001 to"):
        Device(fraction)


def test_version_1_puts_the_group_below_ours() -> None:
    own = "4:memory:/elsewhere\n2:cpu,cpuacct:/user.slice\n0::/\n"
    at = Path("/sys/fs/cgroup/cpu,cpuacct/user.slice")
    assert list(places(V1_MOUNTS, own)) == [Place(version=1, parent=at, home=at)]


def test_version_2_puts_it_in_the_nearest_folder_that_hands_out_cpu(tmp_path: Path) -> None:
    home = tmp_path / "user.slice" / "session.scope"
    home.mkdir(parents=True)
    (tmp_path / "cgroup.subtree_control").write_text("cpuset cpu io\n")
    (tmp_path / "user.slice" / "cgroup.subtree_control").write_text("cpu memory\n")
    (home / "cgroup.subtree_control").write_text("\n")
    mounts = f"cgroup2 {tmp_path} cgroup2 rw,nosuid 0 0\n"
    assert list(places(mounts, "0::/user.slice/session.scope\n")) == [
        Place(version=2, parent=tmp_path / "user.slice", home=home),
        Place(version=2, parent=tmp_path, home=home),
    ]


def test_without_cgroups_there_is_no_place_and_a_reason(tmp_path: Path) -> None:
    assert list(places("", "")) == []
    assert make_group(quota_of(0.5), proc=tmp_path) == "there is no CPU controller"


def test_version_2_writes_quota_and_period_together(tmp_path: Path) -> None:
    """Into a folder that stands in for the kernel's: files are made by writing."""
    group = Group(Place(version=2, parent=tmp_path, home=tmp_path), quota_of(0.1))
    assert (group.path / "cpu.max").read_text() == "1000 10000"


def test_groups_of_dead_processes_are_swept_and_those_of_living_ones_are_not(
    tmp_path: Path,
) -> None:
    dead, ours, other = (
        tmp_path / f"{PREFIX}-{2**22 + 1}-0",  # above the highest pid that Linux gives
        tmp_path / f"{PREFIX}-{os.getpid()}-0",
        tmp_path / "someone-else",
    )
    for path in (dead, ours, other):
        path.mkdir()
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([ours, other])


def test_without_a_quota_it_keeps_to_one_core_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "make_group", lambda _quota: "/sys/x: Permission denied")
    with Device(0.1) as device:
        assert (device.slowed, device.how, device.environ["OMP_NUM_THREADS"]) == (
            False,
            (
                f"not slowed to 0.1, only kept to one thread on core {last_core()} alone, since no "
                "CPU quota can be set here (/sys/x: Permission denied)"
            ),
            "1",
        )


class TestWithQuota:
    """On the machine's own cgroups."""

    pytestmark = needs_quota

    def test_a_command_gets_no_more_than_its_fraction(self, tmp_path: Path) -> None:
        """0.2 s of CPU at a fifth take a second, less the free start: one period and one tick."""
        burn = (
            "import time; start = time.perf_counter(); used = time.process_time()\n"
            "while time.process_time() < used + 0.2: pass\n"
            "print(time.perf_counter() - start)\n"
        )
        with Processes(tmp_path) as processes, Device(0.2) as device:
            child = processes.start("burn", device.command([sys.executable, "-c", burn]))
            assert child.wait(60) == 0
            assert float(child.last_line()) > 0.9
            assert device.slowed

    def test_children_of_the_command_are_on_the_device_too(self, tmp_path: Path) -> None:
        words = ["sh", "-c", "cat /proc/self/cgroup; taskset -p $$ || true"]
        with Processes(tmp_path) as processes, Device(0.5) as device:
            child = processes.start("sh", device.command(words))
            assert child.wait(60) == 0
            assert f"{PREFIX}-{os.getpid()}" in child.log_path.read_text()

    def test_a_running_process_can_be_moved_and_is_moved_back_at_the_end(
        self, tmp_path: Path
    ) -> None:
        with Processes(tmp_path) as processes:
            child = processes.start("sleep", ["sleep", "600"])
            groups = Path(f"/proc/{child.pid}/cgroup")
            before = groups.read_text()
            with Device(0.5) as device:
                device.attach(child.pid)
                assert f"{PREFIX}-{os.getpid()}" in groups.read_text()
            assert groups.read_text() == before
            assert child.running

    def test_nothing_of_it_is_left(self) -> None:
        with Device(0.5) as device:
            assert device._group is not None
            path = device._group.path
            assert path.is_dir()
        assert not path.exists()

    def test_a_process_that_is_not_there_cannot_be_moved(self) -> None:
        with Device(0.5) as device, pytest.raises(TestbedError, match="cannot be moved"):
            device.attach(2**22 + 1)
