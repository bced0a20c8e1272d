"""Steps of the real models, ready to be read: beside the files that they name.

Those files lie inside the models' packages: MiniLM's tokenizer as it is, PP-OCR's characters in the
model's own metadata.
"""

import shutil
from pathlib import Path

import onnx

from testbed import models, packages
from testbed.catalogue import TOKENIZER

FOLDER = Path(__file__).resolve().parent / "steps"
"""``NAME.json`` for each model that has steps."""


def names() -> tuple[str, ...]:
    """The models that have steps."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def lay_out(name: str, folder: Path) -> Path:
    """Copy the steps of the model *name*, and the files that they name, into *folder*.

    Returns:
        The steps file.

    Raises:
        NotInstalled: the package that holds such a file is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if name == "minilm":
        shutil.copyfile(packages.MINILM_TOKENIZER.file(TOKENIZER), folder / "tokenizer.json")
    elif name == "ppocr_rec":
        (folder / "ppocr_rec.charset.txt").write_text(ppocr_charset(), encoding="utf-8")
    return Path(shutil.copyfile(FOLDER / f"{name}.json", folder / f"{name}.json"))


def ppocr_charset() -> str:
    """The characters of PP-OCR's recogniser, one a line, the space that it adds last.

    Source: rapidocr-onnxruntime 1.4.4, ``ch_ppocr_rec/utils.py``: the model's metadata.
    """
    properties = onnx.load(str(models.find("ppocr_rec").path)).metadata_props
    characters = next(each.value for each in properties if each.key == "character").splitlines()
    return "".join(f"{character}\n" for character in (*characters, " "))
