"""Opening ONNX Runtime sessions, with its many exceptions turned into one sentence."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from planner.errors import ModelError

QUIET = 3  # ONNX Runtime's log level "error": warnings about unused initializers are not news
INLINE_BELOW_BYTES = 1024
"""Smaller tensors stay in the model: shapes and scalars are looked at when a graph is read."""

WEIGHTS_FILE = "weights.bin"


def open_session(
    model: bytes,
    *,
    level: ort.GraphOptimizationLevel = ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    threads: int = 1,
    folder: Path | None = None,
    prepack: bool | None = None,
    save_to: Path | None = None,
    profile_to: Path | None = None,
    without: Sequence[str] = (),
) -> ort.InferenceSession:
    """Open a session on the CPU.

    Args:
        model: the serialised ModelProto.
        level: how far ONNX Runtime may rewrite the graph.
        threads: intra-op threads; they never spin, since on a device other work waits.
        folder: where the model's references to weights start from; ONNX Runtime maps them.
        prepack: whether the session keeps a copy of the matrices in the order its kernels like
            best. By default not where weights are mapped: four tails of a 575 MB model hold 1.1 GB
            without and 2.6 GB with, and convolutions run as fast; matrix products of many rows
            are slower, a transformer 1.3 times and an int8 one 1.7 times (2026-11).
        save_to: where to write the optimised model, if anywhere; with *folder*, its weights go to
            :data:`WEIGHTS_FILE` beside it.
        profile_to: prefix of ONNX Runtime's profile file, if one is wanted.
        without: names of ONNX Runtime's optimisers to leave out.

    Raises:
        ModelError: ONNX Runtime cannot run this model.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if folder is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(folder)
        )
    if not (folder is None if prepack is None else prepack):
        options.add_session_config_entry("session.disable_prepacking", "1")
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
        if folder is not None:
            entry = "session.optimized_model_external_initializers"
            options.add_session_config_entry(f"{entry}_file_name", WEIGHTS_FILE)
            options.add_session_config_entry(f"{entry}_min_size_in_bytes", str(INLINE_BELOW_BYTES))
    if profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_to)
    try:
        return ort.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without)
        )
    except Exception as error:  # ONNX Runtime's own classes share no base but Exception
        reason = " ".join(str(error).split())
        raise ModelError(f"onnxruntime refuses the model: {reason[:300]}") from error
