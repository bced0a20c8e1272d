"""What a message more costs, measured on the agent's real uplink."""

from pathlib import Path

import pytest

from testbed.bench import messages
from testbed.processes import Processes


def test_the_agents_uplink_is_measured_whole_and_in_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "ROUNDS", 1)
    monkeypatch.setattr(messages, "REQUESTS", 3)
    monkeypatch.setattr(messages, "SPACING_S", 0.0)
    with Processes(tmp_path) as processes:
        assert messages.message_s(processes) >= 0
