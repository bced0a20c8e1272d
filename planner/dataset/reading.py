"""``--evaluate DATA``: what lies there, and whether it is for this model."""

from collections.abc import Mapping
from pathlib import Path

from planner.dataset.labels import CSV, JSON, read_labels
from planner.dataset.samples import Dataset, Messages, spread
from planner.dataset.stacked import read_others, read_stacked
from planner.errors import InputError
from planner.model import Model

OTHERS = "inputs.npz"


def read_dataset(path: Path, model: Model, limit: int | None = None) -> Dataset:
    """Read the data at *path*, for measuring *model* on them.

    Args:
        path: one of

            - a folder of files, each one message of the sensor (an image, a sound, a text), taken
              in the order of their names. Labels come from ``labels.csv`` (``file,label``) or
              ``labels.json`` (``{"file": "label"}``) in it, which must then name every file; or
              from sub-folders, one for each label. Hidden files are left out. Where the model
              takes more than the message (a recurrent state, say), ``inputs.npz`` in the folder
              has it, the same for every sample;
            - an ``.npz`` with one array for each input of the network, whose first axis counts the
              samples, and ``labels`` if there are any.
        model: what the samples are for.
        limit: take at most so many samples, evenly spaced over all of them.

    Returns:
        The samples, in order. Files are read when a sample is used, so memory stays bounded.

    Raises:
        InputError: nothing is there, the data are empty, of another form or not for this model,
            or the labels do not fit the files.
    """
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} samples leaves none: take at least 1")
    if path.is_dir():
        return _read_folder(path, model, limit)
    if path.suffix == ".npz" and path.is_file():
        return read_stacked(path, model, limit)
    if path.exists():
        raise InputError(f"data {path} is neither a folder nor an .npz: put the messages in one")
    raise InputError(f"data {path} does not exist: check the path")


def _read_folder(folder: Path, model: Model, limit: int | None) -> Dataset:
    (source, *more) = (model.graph.info(name) for name in model.source)
    if source.datatype != "BYTES":
        taken = ", ".join(info.name for info in model.inputs)
        raise InputError(
            f"{model.name} takes arrays ({taken}), no files: give an .npz with one array for each, "
            "or its steps.json"
        )
    try:
        files, labels = _files(folder, *([OTHERS] if more else []))
    except OSError as error:
        raise InputError(f"data {folder} cannot be read: {error.strerror}") from error
    if not files:
        raise InputError(f"data {folder} holds no files: put the sensor's messages there")
    names = tuple(files[at] for at in spread(len(files), limit))
    return Dataset(
        name=str(folder),
        given=model.source,
        names=names,
        samples=Messages(
            [folder / name for name in names],
            source.name,
            read_others(folder / OTHERS, more) if more else {},
        ),
        labels=None if labels is None else tuple(labels[name] for name in names),
    )


def _files(folder: Path, *apart: str) -> tuple[list[str], Mapping[str, str] | None]:
    """The messages' names below *folder* but for *apart*, in order, and their labels."""
    plain = _visible(folder)
    tables = [folder / name for name in (CSV, JSON) if name in plain]
    plain = [name for name in plain if name not in (CSV, JSON, *apart)]
    below = {
        f"{each.name}/{name}": each.name
        for each in sorted(folder.iterdir())
        if each.is_dir() and not each.name.startswith(".")
        for name in _visible(each)
    }
    if len(tables) > 1:
        raise InputError(f"data {folder} holds both {CSV} and {JSON}: keep one of them")
    if tables:
        every = sorted((*plain, *below))
        return every, read_labels(tables[0], every)
    if plain and below:
        raise InputError(
            f"data {folder} holds both files and folders with files: give either files, or one "
            f"folder for each label, or a {CSV}"
        )
    return (plain, None) if plain else (sorted(below), below)


def _visible(folder: Path) -> list[str]:
    return sorted(
        each.name
        for each in folder.iterdir()
        if each.is_file() and not each.name.startswith(".") and each.name != "Thumbs.db"
    )
