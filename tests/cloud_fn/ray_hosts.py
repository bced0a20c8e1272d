"""Hosts of two kinds in a Ray with one GPU that nobody has: what Ray sets aside, as JSON."""

import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from cloud_fn import ray_environment
from cloud_fn.config import Ray
from cloud_fn.errors import InstanceLost
from cloud_fn.functions import Function
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.nodes import Resources
from cloud_fn.runtime_dir import RuntimeDir

START_S = 60.0


def main(base: Path) -> None:
    runtime = RuntimeDir.create(base)
    ray_environment.prepare_own(runtime.path / "ray")
    import ray

    from cloud_fn.functions.ray_launcher import RayLauncher
    from cloud_fn.ray_cluster import RayCluster

    function = Function(model="m", version=1, model_path=str(base / "m"))
    kinds = {"cpu": Resources(cpus=0.25), "cuda": Resources(cpus=0.25, gpus=0.5)}
    told: dict[str, object] = {}
    with ExitStack() as stack:
        stack.callback(runtime.remove)
        cluster = RayCluster(Ray(num_cpus=2, num_gpus=1), runtime.path / "ray")
        stack.callback(cluster.stop)
        cluster.start()
        launcher = RayLauncher(runtime, kinds=kinds, defaults=Confinement())
        stack.callback(launcher.close)
        launcher.open(timeout_s=START_S)
        told["gpus_without"] = free(ray, "GPU", 1.0)
        running = launcher.start(function, timeout_s=START_S, kind="cuda")
        told["kind"] = running.kind
        told["gpus_with"] = free(ray, "GPU", 0.5)
        told["cpus_with"] = free(ray, "CPU", 1.5)
        told["sees"] = psutil.Process(running.process.pid).environ().get("CUDA_VISIBLE_DEVICES")
        os.kill(running.process.pid, 11)
        told["why"] = launcher.why_ended(running)
        launcher.end(running)
        try:
            launcher.start(function, timeout_s=START_S, kind="tpu")
        except InstanceLost as error:
            told["unknown"] = str(error)
    told["left"] = [path.name for path in base.iterdir()]
    print(json.dumps(told))  # noqa: T201


def free(ray: "object", name: str, wanted: float) -> float:
    """What Ray says is free; its view follows what happens by a moment."""
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s:
        found = float(ray.available_resources().get(name, 0.0))  # type: ignore[attr-defined]
        if found == wanted:
            break
        time.sleep(0.05)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
