"""Make the stubs in ``protos/gen`` from the .proto files: ``python -m protos.generate``.

Needs the ``dev`` group. The stubs import each other as ``protos.gen.*``, which protoc can only
write when the sources appear to lie in that folder: hence the virtual path.
"""

import subprocess
import sys
from pathlib import Path

SOURCES = ("open_inference.proto", "control.proto")


def generate(into: Path) -> list[Path]:
    """Write the stubs below *into*, which stands for the repository's root.

    Returns:
        The files written, sorted.

    Raises:
        subprocess.CalledProcessError: protoc refused a source; it said why on stderr.
    """
    here = Path(__file__).parent
    tools = Path(sys.executable).parent
    into.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-Iprotos/gen={here}",
            f"--plugin=protoc-gen-mypy={tools / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={tools / 'protoc-gen-mypy_grpc'}",
            f"--python_out={into}",
            f"--grpc_python_out={into}",
            f"--mypy_out=quiet:{into}",
            f"--mypy_grpc_out=quiet:{into}",
            *(f"protos/gen/{source}" for source in SOURCES),
        ],
        check=True,
    )
    return sorted((into / "protos" / "gen").glob("*_pb2*"))


if __name__ == "__main__":
    for path in generate(Path(__file__).parent.parent):
        sys.stdout.write(f"{path}\n")
