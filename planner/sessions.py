"""Opening ONNX Runtime sessions, with its many exceptions turned into one sentence."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import onnxruntime as ort

from planner.errors import ModelError

QUIET = 3  # ONNX Runtime's log level "error": warnings about unused initializers are not news
INLINE_BELOW_BYTES = 1024
"""Smaller tensors stay in the model: shapes and scalars are looked at when a graph is read."""

WEIGHTS_FILE = "weights.bin"

Provider: TypeAlias = Literal["cpu", "cuda"]
CPU: tuple[Provider, ...] = ("cpu",)
_PROVIDERS: Mapping[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}
Told: TypeAlias = str | tuple[str, dict[str, str]]
"""A provider's name, with its options where it has any."""


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
    options = _options(
        level, threads, folder, prepack=folder is None if prepack is None else prepack
    )
    if save_to is not None:
        _save(options, save_to, outside=folder is not None)
    if profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_to)
    return _opened(model, options, provider_options(CPU), without)


def open_on(
    model: bytes,
    providers: Sequence[Provider],
    *,
    threads: int = 1,
    folder: Path | None = None,
    gpu_memory_bytes: int | None = None,
) -> ort.InferenceSession:
    """Open a session on other devices than the CPU alone.

    Args:
        model: the serialised ModelProto.
        providers: what runs it, the preferred first.
        threads: of the CPU's part of it.
        folder: where the model's references to weights start from.
        gpu_memory_bytes: how much of a GPU's memory its arena may take; None is all.

    Raises:
        ModelError: ONNX Runtime cannot run this model, or lacks a provider.
    """
    level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options = _options(level, threads, folder, prepack=True)
    return _opened(model, options, provider_options(providers, gpu_memory_bytes))


def optimise(model: bytes, target: Path, folder: Path | None = None) -> None:
    """Write *model* as ONNX Runtime would run it here; opened again, nothing is left to optimise.

    It suits machines of this one's :class:`planner.target.Target` alone.

    Args:
        model: the serialised ModelProto, of IR 4 or later.
        target: where to; its weights go to :data:`WEIGHTS_FILE` beside it, which is not there
            where it has none that are large.
        folder: where the model's references to weights start from.

    Raises:
        ModelError: ONNX Runtime cannot run this model, or not write it.
    """
    level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options = _options(level, 1, folder, prepack=False)
    _save(options, target, outside=True)
    # It makes two reshapes and a Gemm of a product and a sum: no faster to run, and up to a fifth
    # more nodes, each of which takes 40 us to open (MiniLM, transformers of 5 and 100 MB, 2026-11).
    _opened(model, options, provider_options(CPU), without=["MatMulAddFusion"])
    weights = target.with_name(WEIGHTS_FILE)
    if weights.is_file() and not weights.stat().st_size:
        weights.unlink()


def provider_options(
    providers: Sequence[Provider], gpu_memory_bytes: int | None = None
) -> list[Told]:
    """What ONNX Runtime is told of *providers*.

    Raises:
        ModelError: this ONNX Runtime lacks one, in place of which it would silently use the CPU.
    """
    there = ort.get_available_providers()
    told: list[Told] = []
    for provider in providers:
        name = _PROVIDERS[provider]
        if name not in there:
            raise ModelError(
                f"this onnxruntime has no {provider}: install onnxruntime-gpu, or ask for cpu alone"
            )
        if provider == "cpu":
            told.append(name)
            continue
        # Else the arena doubles what it has, and so passes the share of a GPU that others use too.
        options = {"arena_extend_strategy": "kSameAsRequested"}
        if gpu_memory_bytes is not None:
            options["gpu_mem_limit"] = str(gpu_memory_bytes)
        told.append((name, options))
    return told


def _options(
    level: ort.GraphOptimizationLevel, threads: int, folder: Path | None, *, prepack: bool
) -> ort.SessionOptions:
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
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def _save(options: ort.SessionOptions, target: Path, *, outside: bool) -> None:
    options.optimized_model_filepath = str(target)
    if outside:
        entry = "session.optimized_model_external_initializers"
        options.add_session_config_entry(f"{entry}_file_name", WEIGHTS_FILE)
        options.add_session_config_entry(f"{entry}_min_size_in_bytes", str(INLINE_BELOW_BYTES))


def _opened(
    model: bytes,
    options: ort.SessionOptions,
    providers: Sequence[Told],
    without: Sequence[str] = (),
) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(
            model, options, providers=list(providers), disabled_optimizers=list(without)
        )
    except Exception as error:  # ONNX Runtime's own classes share no base but Exception
        reason = " ".join(str(error).split())
        raise ModelError(f"onnxruntime refuses the model: {reason[:300]}") from error
