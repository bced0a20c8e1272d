"""What ``isthmus edge status`` says of a model."""

from edge_agent.folder import ModelStatus, StatusFile
from edge_agent.status import AgentStatus, as_text
from protos.messages import Estimate


def test_what_was_learnt_is_said_once_there_is_something() -> None:
    def a_model(name: str, known: Estimate) -> ModelStatus:
        return ModelStatus(
            name=name,
            version="1",
            digest="0" * 64,
            plan="plan-1",
            pin="auto",
            loaded=("plan-1",),
            known=known,
        )

    said = StatusFile(
        device="cam-01",
        pid=7,
        boot="01J",
        state="online",
        link="up",
        bandwidth_bps=731_250.0,
        rtt_s=0.05,
        applied_version=3,
        models=(
            a_model("new", Estimate()),
            a_model("old", Estimate(wait_s=0.004, local_s=0.03, remote_s=0.012)),
        ),
        ts="2026-11-24T06:00:00Z",
    )
    learnt = (
        "waits in the cloud 4 ms, software around a local request 30 ms, around a sent one 12 ms"
    )
    assert as_text(AgentStatus(running=True, said=said, outbox=None)).splitlines() == [
        "cam-01: online (said at 2026-11-24T06:00:00Z)",
        "  link up (5.85 Mbps, 50 ms), desired version 3",
        "  new 1: follows plan-1 (pin auto)",
        f"  old 1: follows plan-1 (pin auto); learnt: {learnt}",
    ]
