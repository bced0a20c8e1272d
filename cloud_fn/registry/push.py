"""Publishing a model: copy, check, store, give it a number, and make it ready for this machine."""

import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cloud_fn.errors import RegistryError
from cloud_fn.registry import external
from cloud_fn.registry.catalog import Catalog
from cloud_fn.registry.manifest import (
    Content,
    Interface,
    Manifest,
    StoredFile,
    TensorSpec,
    check_name,
)
from cloud_fn.registry.optimising import Say, optimise
from planner.errors import PlannerError
from planner.graph import TensorInfo
from planner.model import Model, read
from planner.steps import load as load_steps

_STEPS = "steps.json"


def push(
    catalog: Catalog,
    model: Path,
    *,
    name: str | None = None,
    steps: Path | None = None,
    dims: Mapping[str, int] | None = None,
    say: Say = lambda _: None,
) -> tuple[Manifest, bool]:
    """Publish the ONNX file *model*, with the files that hold its weights.

    What cannot be made ready for this machine is published all the same: it loads more slowly.

    Args:
        catalog: where to.
        model: the ONNX file.
        name: what it is called; by default its file's name without the suffix.
        steps: the ``steps.json`` around it.
        dims: sizes of dynamic dimensions, see :func:`planner.model.read`.
        say: is told what goes on.

    Returns:
        The version, and whether it is new.

    Raises:
        RegistryError: the name is none, the model cannot be read or run (nothing is left behind),
            or the registry cannot be written.
    """
    name = check_name(model.stem if name is None else name)
    try:
        with catalog.blobs.stage() as stage:
            manifest, new, checked = _push(catalog, stage, model, name, steps, dict(dims or {}))
            _make_ready(catalog, manifest, checked, say)
    except OSError as error:
        raise RegistryError(
            f"registry {catalog.root} cannot be written: {error.strerror or error}"
        ) from error
    return manifest, new


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """What was read of what is to be published: its network took *read_s*."""

    network: Model
    read_s: float
    digest: str
    interface: Interface


def _make_ready(catalog: Catalog, manifest: Manifest, checked: _Checked, say: Say) -> None:
    try:
        made, new = optimise(catalog, manifest, network=(checked.network, checked.read_s), say=say)
    except RegistryError as error:
        say(f"{manifest.name}:{manifest.version} is published, but not optimised: {error}")
        return
    if new:
        say(
            f"{manifest.name}:{manifest.version} loads in {made.open_s * 1e3:.1f} ms here, "
            f"{made.read_s * 1e3:.0f} ms as it was"
        )


def _push(
    catalog: Catalog,
    stage: Path,
    model: Path,
    name: str,
    steps: Path | None,
    dims: dict[str, int],
) -> tuple[Manifest, bool, _Checked]:
    pushed = stage / "pushed"
    pushed.mkdir()
    staged = _copy(model, pushed / f"{name}.onnx", "model")
    bare = external.load_bare(staged)
    outside = external.locations(bare) if bare is not None else ()
    for location in outside:
        _copy(external.check_inside(location, model), pushed / location, "weights")
    staged_steps, named = _stage_steps(steps, stage / "steps")
    checked = _check(staged, model, staged_steps, steps, dims, named)
    data = {location: catalog.blobs.put(pushed / location, location) for location in outside}
    if bare is not None and data:
        external.relocate(bare, {location: file.digest for location, file in data.items()})
        staged.write_bytes(bare.SerializeToString(deterministic=True))
    content = Content(
        model=catalog.blobs.put(staged, model.name),
        data=tuple(data.values()),
        steps=_put_steps(catalog, staged_steps),
        beside=tuple(
            catalog.blobs.put(stage / "steps" / stored, name) for stored, name in named.items()
        ),
        dims=dims,
    )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    draft = Manifest(
        name=name,
        version=1,
        digest=checked.digest,
        content=content,
        interface=checked.interface,
        created=created,
    )
    manifest, new = catalog.add(draft)
    return manifest, new, checked


def _stage_steps(steps: Path | None, folder: Path) -> tuple[Path | None, dict[str, str]]:
    """Copy a steps file, and the files that it names under their SHA-256, which it then names.

    Returns:
        The copy, and of each file its SHA-256 and what the publisher called it.
    """
    if steps is None:
        return None, {}
    folder.mkdir()
    try:
        loaded = load_steps(steps)
    except PlannerError as error:
        raise RegistryError(str(error)) from error
    named = {}
    for name, data in loaded.files.items():
        stored = hashlib.sha256(data).hexdigest()
        (folder / stored).write_bytes(data)
        named[stored] = name
    (folder / _STEPS).write_bytes(loaded.stored)
    return folder / _STEPS, named


def _check(
    staged: Path,
    model: Path,
    staged_steps: Path | None,
    steps: Path | None,
    dims: dict[str, int],
    named: Mapping[str, str],
) -> _Checked:
    """Read what was copied, so that what is stored is what was checked."""
    try:
        began_s = time.perf_counter()
        network = read(staged, dims=dims)
        read_s = time.perf_counter() - began_s
        found = network
        if staged_steps is not None:
            found = network.with_steps(load_steps(staged_steps))
    except PlannerError as error:
        sentence = str(error).replace(str(staged), str(model))
        if steps is not None:
            sentence = sentence.replace(str(staged_steps), str(steps))
        for stored, called in named.items():
            sentence = sentence.replace(stored, called)
        raise RegistryError(sentence) from error
    interface = Interface(
        inputs=tuple(map(_spec, found.inputs)),
        outputs=tuple(map(_spec, found.outputs)),
        source=tuple(_spec(found.graph.info(each)) for each in found.graph.sources),
        answers=tuple(_spec(found.graph.info(each)) for each in found.graph.answers),
    )
    return _Checked(network=network, read_s=read_s, digest=found.digest, interface=interface)


def _spec(info: TensorInfo) -> TensorSpec:
    return TensorSpec(name=info.name, datatype=info.datatype, shape=info.shape)


def _put_steps(catalog: Catalog, staged: Path | None) -> StoredFile | None:
    return None if staged is None else catalog.blobs.put(staged, _STEPS)


def _copy(source: Path, target: Path, what: str) -> Path:
    """Copy a file of the publisher's.

    Raises:
        RegistryError: it cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        reading = source.open("rb")
    except OSError as error:
        raise RegistryError(f"{what} {source} cannot be read: {error.strerror}") from error
    with reading, target.open("wb") as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)
    return target
