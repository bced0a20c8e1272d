"""What this machine is called, for the profiles that are taken on it."""

import platform
from pathlib import Path

import numpy as np
import onnxruntime as ort
import psutil

from planner.profiles import Machine

CPUINFO = Path("/proc/cpuinfo")


def this_machine(threads: int) -> Machine:
    """Its description, for times that the CPU took with so many *threads*."""
    return Machine(
        cpu=cpu_name(CPUINFO),
        cores=psutil.cpu_count() or 1,
        threads=threads,
        python=platform.python_version(),
        onnxruntime=ort.__version__,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        numpy=np.__version__,
    )


def cpu_name(cpuinfo: Path) -> str:
    """The processor's name; on ARM boards, the board's."""
    return _field(cpuinfo, "model name", "Model") or platform.processor() or platform.machine()


def _field(path: Path, *names: str) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and name.strip() in names:
            return value.strip()
    return ""
