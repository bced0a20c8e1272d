"""A Python that has Ray Serve: an environment of its own, made once, over the one we run in.

Serve's nearly fifty packages stay out of the environment whose own Ray is measured.
"""

import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from testbed.errors import NotInstalled

INSTALL_LIMIT_S = 600.0


def serve_python(say: Callable[[str], None]) -> Path:
    """The interpreter of that environment, which is made when it is first asked for.

    Raises:
        NotInstalled: it cannot be made, for want of a network perhaps.
    """
    wanted = f"ray[serve]=={version('ray')}"
    folder = Path.home() / ".cache" / "isthmus" / "peers" / f"ray-serve-{version('ray')}"
    python = folder / "bin" / "python"
    done = folder / "complete"
    if done.is_file() and done.read_text() == sysconfig.get_path("purelib"):
        return python
    say(f"installing {wanted} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=False, symlinks=True)
    inside = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (inside / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", wanted]
    try:
        subprocess.run(pip, check=True, capture_output=True, timeout=INSTALL_LIMIT_S)
    except (subprocess.SubprocessError, OSError) as error:
        raise NotInstalled(
            f"{wanted} cannot be installed into {folder}: see what `{' '.join(pip)}` says"
        ) from error
    done.write_text(sysconfig.get_path("purelib"))
    return python
