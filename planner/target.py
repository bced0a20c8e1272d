"""The kind of machine that an optimised model is for: its processor's instructions, and the engine.

ONNX Runtime lays weights out for the vectors that the processor has (blocks of 8 or 16 channels),
and turns some int8 weights into others where an instruction is missing.
"""

import functools
import hashlib
import platform
from pathlib import Path

import msgspec

_CPUINFO = Path("/proc/cpuinfo")
_MATTER = frozenset(
    {"sse4_1", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8"}
    | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"}
    | {"amx_tile", "amx_int8", "amx_bf16"}
    | {"asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "svei8mm", "svebf16", "sme"}
)
"""Of the flags in ``/proc/cpuinfo``, those that kernels for neural networks ask for."""


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of machine; what is optimised for one is not run on another."""

    architecture: str
    features: tuple[str, ...]
    onnxruntime: str

    @property
    def id(self) -> str:
        """A name for it, the same wherever it is computed."""
        digest = hashlib.sha256(msgspec.json.encode(self)).hexdigest()
        return f"{self.architecture}-{digest[:12]}"


@functools.cache
def this_target(cpuinfo: Path = _CPUINFO) -> Target:
    """The kind of this machine, which stays the same while a process runs."""
    import onnxruntime as ort  # who only reads targets does without it

    return Target(
        architecture=platform.machine(),
        features=tuple(sorted(_flags(cpuinfo) & _MATTER)),
        onnxruntime=ort.__version__,
    )


def _flags(cpuinfo: Path) -> frozenset[str]:
    """What all processors have: an ARM board may have two kinds."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    pairs = (line.partition(":") for line in lines)
    each = [frozenset(v.split()) for k, _, v in pairs if k.strip() in ("flags", "Features")]
    return frozenset.intersection(*each) if each else frozenset()
