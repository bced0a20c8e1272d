"""With a cloud: heads and tails apart, and what happens when the way between them is gone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from protos.deployments import encode_deployment
from protos.messages import Estimate
from protos.wire import Waits, decode_request
from testbed.control import LinkControl
from tests.edge_agent.integration.conftest import LIMIT_S, TOPICS, Agents, App, Cloud, Heard

pytestmark = pytest.mark.integration

OWN = TOPICS.infer("tiny", "res")


def applied(version: int) -> Callable[[Heard], bool]:
    """Whether a report says that *version* is applied."""
    return lambda heard: bool(heard.json["applied_version"] == version)


def test_a_split_request_is_finished_in_the_cloud(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    agents(with_cloud(cloud.address)).start()
    app.ask(picture(1))
    result = app.wait(OWN).result
    assert (result.placement.mode, result.placement.plan, result.placement.split) == (
        "split",
        "plan-1",
        ("relu",),
    )
    assert [tensor.name for tensor in result.outputs] == ["label", "score"]
    assert (result.sent_bytes, result.degraded) == (1024, False)
    assert result.received_bytes > 0
    assert result.timing is not None
    terms = result.timing
    total = terms.trigger + terms.init + terms.load + terms.infer + terms.response
    assert total == pytest.approx(result.ms.total, abs=0.01)
    assert result.ms.cloud == 0.03
    request = decode_request(cloud.asked.get(timeout=LIMIT_S))
    assert (request.model, request.version, request.cut) == ("tiny", "1", "plan-1")
    assert request.deadline_ms is not None
    assert 0 < request.deadline_ms < 20_000


def test_every_plan_gives_the_same_answer(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    agents(with_cloud(cloud.address, pin="auto")).start()
    answers = []
    for version, (plan, expected) in enumerate(
        [("device-only", "edge"), ("plan-1", "split"), ("cloud-jpeg", "cloud")], start=1
    ):
        app.publish(
            TOPICS.desired,
            b'{"version":%d,"models":{"tiny":{"plan":"%s"}}}' % (version, plan.encode()),
            retain=True,
        )
        app.wait(TOPICS.reported, applied(version))
        app.ask(picture(5))
        result = app.wait(OWN).result
        assert (result.placement.mode, result.placement.plan) == (expected, plan)
        label, score = result.outputs
        answers.append((label.data[0], round(score.data[0], 5)))
    assert answers == [answers[0]] * 3


def test_a_link_that_is_cut_in_the_middle_of_a_request_costs_no_answer(
    app: App,
    cloud: Cloud,
    link: tuple[str, LinkControl],
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    """The device answers before the deadline, degrades, and goes back by itself."""
    address, control = link
    agents(with_cloud(address)).start()
    app.ask(picture(1))
    assert app.wait(OWN).result.placement.mode == "split"
    cloud.silent = True  # so that it is certainly under way when the link goes
    app.ask(picture(2), CorrelationData=b"cut", UserProperty=("timeout-ms", "4000"))
    cloud.asked.get(timeout=LIMIT_S)
    cloud.asked.get(timeout=LIMIT_S)
    control.outage(on=True)
    cloud.silent = False
    result = app.wait(OWN, lambda heard: heard.correlation == b"cut").result
    assert (result.placement.mode, result.degraded, result.placement.plan) == (
        "fallback",
        True,
        "plan-1",
    )
    app.wait(TOPICS.event("link_degraded"))
    app.wait(TOPICS.status, lambda heard: heard.json["state"] == "degraded")
    app.ask(picture(3))
    down = app.wait(OWN).result
    assert (down.placement.mode, down.sent_bytes) == ("fallback", 0)
    control.outage(on=False)
    app.wait(TOPICS.event("link_restored"))
    app.wait(TOPICS.status, lambda heard: heard.json["state"] == "online")
    app.ask(picture(4))
    assert app.wait(OWN).result.placement.mode == "split"


def test_a_cloud_that_refuses_costs_no_answer(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    cloud.refusal = "there is no model tiny here"
    agents(with_cloud(cloud.address)).start()
    app.ask(picture(1))
    assert app.wait(OWN).result.placement.mode == "fallback"
    cloud.refusal = ""
    app.ask(picture(1))
    assert app.wait(OWN).result.placement.mode == "split"
    assert app.heard(TOPICS.event("link_degraded")) == []


def test_an_answer_that_is_not_what_the_model_makes_is_not_passed_on(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    cloud.loses = "score"
    agents(with_cloud(cloud.address)).start()
    app.ask(picture(1))
    result = app.wait(OWN).result
    assert result.placement.mode == "fallback"
    assert [tensor.name for tensor in result.outputs] == ["label", "score"]


def test_a_cloud_that_is_not_there_at_the_start_is_found_when_it_comes(
    app: App,
    cloud: Cloud,
    link: tuple[str, LinkControl],
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    address, control = link
    control.outage(on=True)
    agents(with_cloud(address)).start()
    app.ask(picture(1))
    assert app.wait(OWN).result.placement.mode == "fallback"
    control.outage(on=False)
    app.wait(TOPICS.event("link_restored"))
    app.ask(picture(1))
    assert app.wait(OWN).result.placement.mode == "split"


def test_the_api_key_goes_with_every_call(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    tmp_path: Path,
    picture: Callable[[int], bytes],
) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    agents(with_cloud(cloud.address) + 'key_file = "key"\n').start()
    app.ask(picture(1))
    assert app.wait(OWN).result.placement.mode == "split"
    assert cloud.keys == {"Bearer s3cret"}


def test_the_cuts_of_all_plans_are_deployed_at_each_connection(
    cloud: Cloud,
    app: App,
    link: tuple[str, LinkControl],
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
) -> None:
    """The gateway forgets them when it ends."""
    cloud.deploys = True
    address, control = link
    agents(with_cloud(address, pin="auto")).start()
    sent = encode_deployment("tiny", "1", (("relu",), ("bytes",)))
    assert cloud.deployed.get(timeout=LIMIT_S) == sent
    control.outage(on=True)
    app.wait(TOPICS.event("link_degraded"))
    assert cloud.deployed.empty()
    control.outage(on=False)
    assert cloud.deployed.get(timeout=LIMIT_S) == sent


def test_a_gateway_where_everybody_waits_is_left_to_the_others(
    app: App,
    cloud: Cloud,
    agents: Callable[[str], Agents],
    with_cloud: Callable[..., str],
    picture: Callable[[int], bytes],
) -> None:
    """The device itself has waited for nothing yet."""
    cloud.waits = Waits(requests=1000, queue_s=5.0)
    agents(with_cloud(cloud.address, pin="auto")).start()
    app.ask(picture(1))
    first = app.wait(OWN).result.placement
    assert first.mode in ("split", "cloud")
    assert isinstance(first.estimate, Estimate)
    assert first.estimate.wait_s == pytest.approx(5.0)
    app.ask(picture(2))
    assert app.wait(OWN).result.placement.mode == "edge"
