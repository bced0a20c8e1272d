"""What was made ready after the gateway looked is opened by the instances started from then on."""
# ruff: noqa: ARG002  (fakes take what the real ones take)

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_fn.functions import Function
from cloud_fn.functions.chain import stage_functions
from cloud_fn.functions.confinement import Confinement
from cloud_fn.functions.fresh import Fresh
from cloud_fn.functions.launch import CPU, Running
from cloud_fn.functions.node_cache import NodeCache
from cloud_fn.functions.reach import Near
from cloud_fn.processes import Mark
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.registry.push import push


class Recording:
    """A launcher that keeps what it was to start, and tells of no end."""

    def __init__(self) -> None:
        self.started: list[Function] = []
        self.ended: list[str] = []

    def start(
        self,
        function: Function,
        *,
        timeout_s: float,
        confinement: Confinement | None = None,
        kind: str = CPU,
        fits: Callable[[str], bool] = lambda _: True,
    ) -> Running:
        self.started.append(function)
        name = f"{function.key} {kind} {timeout_s:g}"
        return Running(name=name, process=Mark(1, 0.0), address=Near(Path("s")))

    def end(self, running: Running) -> None:
        self.ended.append(running.name)

    def why_ended(self, running: Running) -> str | None:
        return f"{running.name} fell"


@pytest.fixture
def recording() -> Recording:
    return Recording()


@pytest.fixture
def fresh(recording: Recording, catalog: Catalog, tmp_path: Path) -> Fresh:
    return Fresh(recording, catalog, NodeCache(tmp_path / "cache"))


def variants(catalog: Catalog) -> Path:
    return catalog.root / "models" / "mlp" / "variants" / "1.json"


def test_a_version_made_ready_by_another_process_is_opened_by_the_next_instance(
    fresh: Fresh,
    recording: Recording,
    catalog: Catalog,
    published: dict[str, Manifest],
    mlp: Callable[..., Path],
) -> None:
    variants(catalog).unlink()
    plain = Function.of(published["mlp"], catalog)
    assert plain.ready == ()
    fresh.start(plain, timeout_s=1.0)
    push(Catalog(catalog.root), mlp())
    right = Function.of(published["mlp"], catalog)
    fresh.start(plain, timeout_s=1.0)
    variants(catalog).write_text("{")
    fresh.start(plain, timeout_s=1.0)
    assert right.ready
    assert recording.started == [plain, right, plain]


def test_nothing_is_looked_at_again_that_has_not_changed(
    fresh: Fresh,
    recording: Recording,
    catalog: Catalog,
    published: dict[str, Manifest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    function = Function.of(published["mlp"], catalog)
    fresh.start(function, timeout_s=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "manifest", lambda *_: pytest.fail("it looked"))
        fresh.start(function, timeout_s=1.0)
        for stage in stage_functions(function, 2):
            fresh.start(stage, timeout_s=1.0)
    assert [each.ready for each in recording.started] == [function.ready] * 4
    assert recording.started[3].model == "mlp@2of2"


def test_a_version_that_is_gone_is_started_as_it_was(
    fresh: Fresh, recording: Recording, catalog: Catalog, published: dict[str, Manifest]
) -> None:
    function = Function.of(published["mlp"], catalog)
    shutil.rmtree(catalog.root / "models" / "mlp")
    fresh.start(function, timeout_s=1.0)
    assert recording.started == [function]


def test_all_else_is_the_launchers(
    fresh: Fresh, recording: Recording, catalog: Catalog, published: dict[str, Manifest]
) -> None:
    running = fresh.start(Function.of(published["mlp"], catalog), timeout_s=2.0, kind="cuda")
    assert running.name == "mlp:1 cuda 2"
    assert fresh.why_ended(running) == "mlp:1 cuda 2 fell"
    fresh.end(running)
    assert recording.ended == [running.name]
