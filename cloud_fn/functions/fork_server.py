"""What the fork server imports before it forks; importing this changes the process.

Only Python's fork server does so. It then has one thread, so that a fork never meets a lock that
is held: OpenBLAS would start threads of its own, and so would ONNX Runtime's telemetry, which also
reports to its maker (1.32; both seen, and gone with the settings below, 2026-11).
"""
# ruff: noqa: E402  (the settings come before what reads them)

import gc
import os
import warnings

for _name in [name for name in os.environ if name.startswith(("RAY_", "ISTHMUS_"))]:
    del os.environ[_name]  # the cluster's and the gateway's, no business of functions
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", ORT_DISABLE_TELEMETRY="1")

from cloud_fn import memory
from cloud_fn.functions import prctl

prctl.name_process("isthmus-forks")
prctl.die_with_parent()
prctl.adopt_orphans()  # what an instance leaves behind becomes ours, where the host finds it
memory.keep_buffers()
# Python's fork server wonders about each orphan that it collects.
warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")

import numpy as np
import onnxruntime

import cloud_fn.functions.instance
import cloud_fn.functions.spare
from planner.waking import wake

__all__ = ["cloud_fn", "np", "onnxruntime"]

wake()
gc.collect()
gc.freeze()  # else the first collection in each child copies every page that holds an object
