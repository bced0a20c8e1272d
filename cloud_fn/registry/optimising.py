"""Making a published version ready for this machine, once."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import onnx

from cloud_fn.errors import RegistryError
from cloud_fn.registry.batching import find_batched
from cloud_fn.registry.catalog import Catalog
from cloud_fn.registry.manifest import Manifest, StoredFile
from cloud_fn.registry.variants import Variant
from planner.compiling import Compiled, compile_ready, race
from planner.errors import PlannerError
from planner.external import outside, relocate
from planner.model import Model, read
from planner.ready import Ready, open_ready
from planner.target import this_target

Say = Callable[[str], None]


def optimise(
    catalog: Catalog,
    manifest: Manifest,
    *,
    network: tuple[Model, float] | None = None,
    say: Say = lambda _: None,
) -> tuple[Variant, bool]:
    """The variant of a version for this machine, made where there is none that is whole.

    Args:
        catalog: the registry that has the version.
        manifest: the version.
        network: its model without steps, and the seconds that it took to read it, where that has
            been done already.
        say: is told what goes on.

    Returns:
        The variant, and whether it is new.

    Raises:
        RegistryError: ONNX Runtime cannot optimise it, or the registry cannot be written.
    """
    target = this_target()
    try:
        with catalog.making(manifest):
            for variant in _known(catalog, manifest):
                if variant.target == target and all(map(catalog.blobs.is_intact, variant.single)):
                    return _completed(catalog, manifest, variant, say)
            size_mb = manifest.content.size_bytes / 1e6
            say(f"optimising {manifest.name}:{manifest.version} ({size_mb:.1f} MB) for {target.id}")
            made, ready = _make(catalog, network or _read(catalog, manifest), say)
            batched = find_batched(catalog, manifest, made, ready, say=say)
            made = msgspec.structs.replace(made, batched=batched)
            catalog.add_variant(manifest, made)
    except PlannerError as error:
        raise RegistryError(str(error)) from error
    except OSError as error:
        raise RegistryError(
            f"registry {catalog.root} cannot be written: {error.strerror or error}"
        ) from error
    return made, True


def _completed(
    catalog: Catalog, manifest: Manifest, variant: Variant, say: Say
) -> tuple[Variant, bool]:
    """*variant*, and whether it has become another: nobody had asked whether it can be batched."""
    batched = variant.batched
    if batched is not None and all(map(catalog.blobs.is_intact, batched.files)):
        return variant, False
    _, ready = _opened(catalog, variant.graph, variant.document)
    batched = find_batched(catalog, manifest, variant, ready, say=say)
    made = msgspec.structs.replace(variant, batched=batched)
    catalog.add_variant(manifest, made)
    return made, True


def _known(catalog: Catalog, manifest: Manifest) -> tuple[Variant, ...]:
    try:
        return catalog.variants(manifest)
    except RegistryError:  # the list is damaged, and so written anew
        return ()


def _read(catalog: Catalog, manifest: Manifest) -> tuple[Model, float]:
    began_s = time.perf_counter()
    content = manifest.content
    model = read(catalog.blobs.path(content.model), dims=content.dims)
    return model, time.perf_counter() - began_s


def _make(catalog: Catalog, network: tuple[Model, float], say: Say) -> tuple[Variant, Ready]:
    model, read_s = network
    began_s = time.perf_counter()
    model.piece([info.name for info in model.inputs], [info.name for info in model.outputs])
    read_s += time.perf_counter() - began_s
    with catalog.blobs.stage() as stage:
        compiled = compile_ready(model, stage)
        weights = None
        if compiled.weights is not None:
            weights = catalog.blobs.put(compiled.weights, compiled.weights.name)
            _refer(compiled, weights)
        graph = catalog.blobs.put(compiled.optimised, compiled.optimised.name)
        document = catalog.blobs.put(compiled.document, compiled.document.name)
    open_s, ready = _opened(catalog, graph, document)
    say("measuring whether a copy of its weights makes it faster")
    found = race(ready)
    variant = Variant(
        target=this_target(),
        graph=graph,
        document=document,
        weights=weights,
        read_s=read_s,
        open_s=open_s,
        mapped_s=None if found is None else found.mapped_s,
        prepacked_s=None if found is None else found.prepacked_s,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return variant, ready


def _refer(compiled: Compiled, weights: StoredFile) -> None:
    """Have the graph refer to its weights by the name that they have in the registry."""
    proto = onnx.load_model(str(compiled.optimised), load_external_data=False)
    for tensor in outside(proto):
        relocate(tensor, weights.digest)
    compiled.optimised.write_bytes(proto.SerializeToString())


def _opened(catalog: Catalog, graph: StoredFile, document: StoredFile) -> tuple[float, Ready]:
    """The seconds that it takes to open it, the best of some."""
    path: Path = catalog.blobs.path(graph)
    best_s = float("inf")
    for _ in range(3):
        began_s = time.perf_counter()
        ready = open_ready(
            catalog.blobs.path(document), optimised=path, folder=path.parent, name="optimised"
        )
        if (whole := ready.whole()) is not None:
            ready.open(whole)
        best_s = min(best_s, time.perf_counter() - began_s)
    return best_s, ready
