"""What this machine has and lacks, each with a finding and what to do about it."""

import contextlib
import importlib.metadata
import importlib.util
import json
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil

from testbed import models
from testbed.broker import INSTALL, mosquitto_path

Mark = Literal["ok", "warn", "fail"]

GIB = 1024**3
LEAST_DISK_BYTES = 2 * GIB
LEAST_MEMORY_BYTES = 2 * GIB
LEAST_SHM_BYTES = 128 * 1024**2
PORTS = {8001: "the gateway (isthmus serve)", 1883: "an MQTT broker"}
VECTOR_FLAGS = ("avx", "avx2", "avx512f", "avx512_vnni", "asimd", "asimddp", "i8mm", "sve")
PROBE_LIMIT_S = 60.0

_PROBE = """
import json, onnxruntime
print(json.dumps([onnxruntime.__version__, onnxruntime.get_available_providers()]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: ``fix`` is empty where nothing needs to be done."""

    check: str
    mark: Mark
    finding: str
    fix: str = ""


def examine() -> tuple[Finding, ...]:
    """Every check, in the order in which a user meets the parts."""
    return tuple(check() for check in CHECKS)


def as_json(findings: tuple[Finding, ...]) -> dict[str, object]:
    return {"ok": healthy(findings), "findings": [asdict(finding) for finding in findings]}


def healthy(findings: tuple[Finding, ...]) -> bool:
    return all(finding.mark != "fail" for finding in findings)


def python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding(check="python", mark="ok", finding=found)


def cpu() -> Finding:
    name, flags = "unknown processor", set[str]()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                name = value.strip()
            if key.strip() in ("flags", "Features"):
                flags = set(value.split())
    vector = [flag for flag in VECTOR_FLAGS if flag in flags]
    found = f"{name}, {psutil.cpu_count() or 1} cores, {' '.join(vector) or 'no vector unit'}"
    if not vector:
        return Finding(
            check="cpu",
            mark="warn",
            finding=found,
            fix="expect slow inference: plan with a profile made on this very machine",
        )
    return Finding(check="cpu", mark="ok", finding=found)


def memory() -> Finding:
    have = psutil.virtual_memory()
    found = f"{have.available / GIB:.1f} of {have.total / GIB:.1f} GiB available"
    if have.available < LEAST_MEMORY_BYTES:
        return Finding(
            check="memory",
            mark="warn",
            finding=found,
            fix="an agent needs about 0.2 GiB, `isthmus serve` with Ray about 1.5: free some",
        )
    return Finding(check="memory", mark="ok", finding=found)


def onnxruntime() -> Finding:
    """In a process of its own: on old boards the import dies of an illegal instruction."""
    fix = "pip install onnxruntime, in a build for this processor"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=PROBE_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        found = f"its import took over {PROBE_LIMIT_S:.0f} s"
        return Finding(check="onnxruntime", mark="fail", finding=found, fix=fix)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        found = f"its import dies of {name}"
        return Finding(check="onnxruntime", mark="fail", finding=found, fix=fix)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return Finding(check="onnxruntime", mark="fail", finding=last, fix=fix)
    version, providers = json.loads(done.stdout.splitlines()[-1])
    short = ", ".join(name.removesuffix("ExecutionProvider") for name in providers)
    return Finding(check="onnxruntime", mark="ok", finding=f"{version} with {short}")


def mosquitto() -> Finding:
    path = mosquitto_path()
    if path is None:
        return Finding(
            check="mosquitto", mark="fail", finding="no MQTT broker on this machine", fix=INSTALL
        )
    done = subprocess.run([str(path), "-h"], capture_output=True, text=True, check=False)
    version = (done.stdout.splitlines() or ["mosquitto of unknown version"])[0]
    clients = shutil.which("mosquitto_pub") is not None
    return Finding(
        check="mosquitto",
        mark="ok" if clients else "warn",
        finding=f"{version} at {path}" + ("" if clients else ", without mosquitto_pub"),
        fix="" if clients else "apt-get install mosquitto-clients, to try things by hand",
    )


def ports() -> Finding:
    taken = {port: use for port, use in PORTS.items() if not _free(port)}
    if taken:
        listed = ", ".join(f"{port} ({use})" for port, use in taken.items())
        return Finding(
            check="ports",
            mark="warn",
            finding=f"in use on 127.0.0.1: {listed}",
            fix="that may be the one you want; else give another with --listen",
        )
    free = ", ".join(map(str, PORTS))
    return Finding(check="ports", mark="ok", finding=f"free on 127.0.0.1: {free}")


def ray() -> Finding:
    if importlib.util.find_spec("ray") is None:
        return Finding(
            check="ray",
            mark="warn",
            finding="not installed: a device needs none, `isthmus serve` does",
            fix="pip install isthmus[cloud]",
        )
    version = importlib.metadata.version("ray")
    shm = shutil.disk_usage("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108
    if shm is not None and shm.free < LEAST_SHM_BYTES:
        return Finding(
            check="ray",
            mark="warn",
            finding=f"{version}, but only {shm.free / 1024**2:.0f} MiB of shared memory",
            fix="make /dev/shm larger; Ray falls back to slow files without it",
        )
    return Finding(check="ray", mark="ok", finding=version)


def disk() -> Finding:
    places = {Path.cwd(), Path(tempfile.gettempdir())}
    usage = {place: shutil.disk_usage(place).free for place in places}
    place, free = min(usage.items(), key=lambda item: item[1])
    found = f"{free / GIB:.1f} GiB free at {place}"
    if free < LEAST_DISK_BYTES:
        fix = "free at least 2 GiB: the outbox and the registry keep what they accepted on disk"
        return Finding(check="disk", mark="warn", finding=found, fix=fix)
    return Finding(check="disk", mark="ok", finding=found)


def real_models() -> Finding:
    lacking = [name for name in models.names() if models.missing(name)]
    have = len(models.names()) - len(lacking)
    found = f"{have} of {len(models.names())} real models found"
    if lacking:
        return Finding(
            check="models",
            mark="warn",
            finding=f"{found}; missing {', '.join(lacking)}",
            fix="make setup (they matter for `isthmus demo`, tests and benchmarks only)",
        )
    return Finding(check="models", mark="ok", finding=found)


CHECKS: tuple[Callable[[], Finding], ...] = (
    python,
    cpu,
    memory,
    disk,
    onnxruntime,
    mosquitto,
    ports,
    ray,
    real_models,
)


def _free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
