"""Opening ONNX Runtime sessions, with its many exceptions turned into one sentence."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from planner.errors import ModelError

QUIET = 3  # ONNX Runtime's log level "error": warnings about unused initializers are not news


def open_session(
    model: bytes,
    *,
    level: ort.GraphOptimizationLevel = ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    threads: int = 1,
    save_to: Path | None = None,
    profile_to: Path | None = None,
    without: Sequence[str] = (),
) -> ort.InferenceSession:
    """Open a session on the CPU.

    Args:
        model: the serialised ModelProto.
        level: how far ONNX Runtime may rewrite the graph.
        threads: intra-op threads; they never spin, since on a device other work waits.
        save_to: where to write the optimised model, if anywhere.
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
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
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
