"""Functions' settings: what may be asked for, what holds, and where it is kept."""
# ruff: noqa: ANN401  (builders take any field)

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fn.config import Instance
from cloud_fn.errors import RegistryError, UnknownModel
from cloud_fn.functions.scaling import policy_of
from cloud_fn.functions.settings import (
    Batching,
    Settings,
    SettingsError,
    changed,
    parse,
    resolve,
)
from cloud_fn.functions.specifications import Specifications
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.registry.function_store import FunctionStore

WHOLE: dict[str, Any] = {
    "model": "mobilenet:3",
    "cpus": 2,
    "max_memory_bytes": 1 << 30,
    "gpu": 0.25,
    "providers": ["cuda", "cpu"],
    "threads": 2,
    "concurrency": 8,
    "batching": {"max_size": 8, "max_wait_s": 0.5, "pad": {"mask": 0}},
    "max_execution_s": 5.0,
    "min_instances": 1,
    "max_instances": 4,
    "scaling": {"policy": "fixed", "keep_alive_s": 60},
    "environment": {"MODE": "fast"},
    "before": "shop.images:shrink",
    "after": "shop:name",
}


def refusal(**fields: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(fields, what="f.toml")
    return str(caught.value)


def test_every_setting_can_be_given_and_comes_back_from_json() -> None:
    settings = parse(WHOLE, what="f.toml")
    assert set(WHOLE) == set(Settings.__struct_fields__) == set(settings.given)
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"threads": 0}, "f.toml is not valid: Expected `int` >= 1 at field `threads`"),
        ({"thread": 1}, "f.toml is not valid: Object contains unknown field `thread`"),
        ({"gpu": 1.5}, "Expected `float` <= 1.0 at field `gpu`"),
        ({"gpu": float("nan")}, "Expected `float` >= 0.0 at field `gpu`"),
        ({"providers": ["tpu"]}, "Invalid enum value 'tpu' at field `providers[0]`"),
        ({"providers": ["cpu", "cpu"]}, "names one twice: name each once, the preferred first"),
        ({"providers": []}, "of length >= 1 at field `providers`"),
        ({"max_memory_bytes": 1000}, ">= 16777216 at field `max_memory_bytes`"),
        ({"max_execution_s": 0}, "Expected `float` > 0.0 at field `max_execution_s`"),
        ({"batching": "on"}, "Invalid enum value 'on' at field `batching`"),
        ({"batching": {"max_size": 1}}, "Expected `int` >= 2 at field `batching.max_size`"),
        ({"scaling": {"policy": "never"}}, "'never' at field `scaling.policy`"),
        ({"model": "Mobile Net"}, "model is 'Mobile Net': write NAME or NAME:VERSION, such as"),
        ({"model": "mobilenet:0"}, "model is 'mobilenet:0': write NAME or NAME:VERSION"),
        ({"model": "mobilenet:"}, "model is 'mobilenet:': write NAME or NAME:VERSION"),
        ({"before": "../evil.py:run"}, "write a handler as package.module:callable"),
        ({"before": "shop"}, "before is 'shop': write a handler as package.module:callable"),
        ({"after": "..shop:run"}, "after is '..shop:run': write a handler as"),
        ({"after": "shop:run()"}, "after is 'shop:run()': write a handler as"),
        ({"environment": {"LD_PRELOAD": "x"}}, "environment names LD_PRELOAD: what begins with"),
        ({"environment": {"pythonpath": "x"}}, "environment names pythonpath: what begins with"),
        ({"environment": {"ISTHMUS_SERVE_LISTEN": "x"}}, "is not a function's to set"),
        ({"environment": {"A B": "x"}}, "a variable has letters, digits and _ only"),
        ({"environment": {"A=B": "x"}}, "a variable has letters, digits and _ only"),
        ({"environment": {"A": "x\0y"}}, "gives A a value with a NUL or of more than 4096"),
        ({"environment": {f"A{i}": "" for i in range(65)}}, "has more than 64 variables"),
    ],
)
def test_a_bad_value_is_refused_in_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    said = refusal(**fields)
    assert sentence in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"min_instances": 3, "max_instances": 2},
            "min_instances is 3 and max_instances is 2: let max_instances be no less",
        ),
        ({"providers": ("cuda",)}, "providers has cuda but gpu is 0: say which share"),
        ({"gpu": 0.5}, "gpu is 0.5 but providers has no cuda: set providers"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        changed(None, Settings(**fields))


def test_a_change_leaves_alone_what_it_does_not_name() -> None:
    base = Settings(threads=2, concurrency=8, min_instances=1)
    assert changed(base, Settings(threads=3), unset=("min_instances",)) == Settings(
        threads=3, concurrency=8
    )
    assert changed(base, Settings(threads=3), replace=True) == Settings(threads=3)


def test_what_is_unset_must_be_a_setting_and_not_set_at_the_same_time() -> None:
    with pytest.raises(SettingsError, match="there is no setting 'colour': there are model, cpus,"):
        changed(None, Settings(), unset=("colour",))
    with pytest.raises(SettingsError, match="threads is both set and unset: do one of the two"):
        changed(None, Settings(threads=1), unset=("threads",))


def test_what_nobody_asked_for_is_the_servers_or_the_default() -> None:
    defaults = Instance(threads=3, concurrency=5, max_execution_s=7.0, keep_alive_s=11.0)
    found = resolve(Settings(threads=1, batching=Batching(max_size=4)), defaults)
    assert (found.threads, found.concurrency, found.max_execution_s) == (1, 5, 7.0)
    assert found.batching == Batching(max_size=4)
    assert msgspec.to_builtins(found.scaling) == {"policy": "fixed", "keep_alive_s": 11.0}
    sources = {field: found.sources[field] for field in ("threads", "concurrency", "gpu")}
    assert sources == {"threads": "function", "concurrency": "server", "gpu": "default"}
    assert resolve(None, defaults) == resolve(Settings(), defaults)


@pytest.mark.parametrize("policy", ["fixed", "histogram", "forecast", "greedy-dual", "back-tested"])
def test_every_scaling_policy_can_be_asked_for_by_name_alone(policy: str) -> None:
    settings = parse({"scaling": {"policy": policy}}, what="f.toml")
    assert settings.scaling is not None
    assert policy_of(settings.scaling).name == policy


def test_a_function_without_a_limit_may_have_as_many_instances_as_it_must() -> None:
    assert resolve(Settings(min_instances=100), Instance()).max_instances == 100


@given(
    st.dictionaries(st.sampled_from(sorted(WHOLE)), st.none(), max_size=4),
    st.sets(st.sampled_from(sorted(WHOLE)), max_size=8),
)
def test_each_value_that_holds_is_the_one_of_its_source(
    dropped: dict[str, None], kept: set[str]
) -> None:
    fields = {name: WHOLE[name] for name in kept - set(dropped)}
    settings = parse(fields, what="x")
    found = resolve(settings, Instance())
    own = {name for name, source in found.sources.items() if source == "function"}
    assert own == set(fields)
    assert {name: getattr(found, name) for name in own} == dict(settings.given)
    assert found.min_instances <= found.max_instances


@pytest.fixture
def store(tmp_path: Path) -> FunctionStore:
    return FunctionStore(tmp_path)


def put(store: FunctionStore, name: str = "mlp", **fields: Any) -> None:
    store.update(name, lambda base: changed(base, Settings(**fields)))


def settings_of(store: FunctionStore, name: str = "mlp") -> Settings | None:
    document = store.get(name)
    return None if document is None else document.settings


def test_settings_are_kept_and_seen_by_whoever_read_them_before(
    store: FunctionStore, tmp_path: Path
) -> None:
    other = FunctionStore(tmp_path)
    assert (settings_of(other), other.names()) == (None, ())
    put(store, threads=2)
    assert (settings_of(other), other.names()) == (Settings(threads=2), ("mlp",))
    put(store, concurrency=9)
    assert settings_of(other) == Settings(threads=2, concurrency=9)
    (tmp_path / "functions" / "mlp.json").unlink()
    assert settings_of(other) is None


def test_the_file_is_a_document_that_people_can_read(store: FunctionStore, tmp_path: Path) -> None:
    put(store, threads=2)
    document = json.loads((tmp_path / "functions" / "mlp.json").read_text())
    assert document.pop("changed").endswith("+00:00")
    assert document == {
        "schema": "isthmus.function/1", "name": "mlp", "settings": {"threads": 2}
    }  # fmt: skip


def test_changes_at_the_same_time_are_all_kept(store: FunctionStore, tmp_path: Path) -> None:
    begin = threading.Barrier(8)

    def add(number: int) -> None:
        def change(base: Settings | None) -> Settings:
            before = {} if base is None else base.environment or {}
            return Settings(environment={**before, f"V{number}": ""})

        begin.wait(20)
        FunctionStore(tmp_path).update("mlp", change)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert settings_of(store) == Settings(environment={f"V{number}": "" for number in range(8)})


BROKEN: list[Callable[[str], str]] = [
    lambda text: text[:20],
    lambda text: text.replace("isthmus.function/1", "isthmus.function/9"),
    lambda text: text.replace('"mlp"', '"other"'),
    lambda text: text.replace('"threads"', '"colour"'),
    lambda text: text.replace('"threads": 2', '"min_instances": 9, "max_instances": 1'),
]


@pytest.mark.parametrize("damage", BROKEN)
def test_while_a_file_makes_no_sense_what_was_read_before_holds(
    store: FunctionStore,
    tmp_path: Path,
    damage: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(store, threads=2)
    path = tmp_path / "functions" / "mlp.json"
    assert settings_of(store) == Settings(threads=2)
    path.write_text(damage(path.read_text()))
    assert [settings_of(store), settings_of(store)] == [Settings(threads=2)] * 2
    assert len(caplog.records) == 1
    fresh = FunctionStore(tmp_path)
    with pytest.raises(RegistryError, match=r"mlp.json"):
        fresh.get("mlp")
    fresh.update("mlp", lambda _: Settings(threads=4), afresh=True)
    assert settings_of(store) == settings_of(fresh) == Settings(threads=4)


def test_a_change_that_is_refused_changes_nothing(store: FunctionStore, tmp_path: Path) -> None:
    put(store, threads=2)
    with pytest.raises(SettingsError):
        put(store, gpu=0.5)
    assert settings_of(store) == Settings(threads=2)
    left = {path.name for path in (tmp_path / "functions").iterdir()}
    assert left == {".lock", "mlp.json"}


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "functions").write_text("")
    with pytest.raises(RegistryError, match=r"mlp.json cannot be written: "):
        put(FunctionStore(tmp_path), threads=2)


@pytest.fixture
def specifications(catalog: Catalog, published: dict[str, Manifest]) -> Specifications:
    return Specifications(catalog, FunctionStore(catalog.root), Instance())


def test_each_published_model_is_a_function_and_each_name_with_settings_is(
    specifications: Specifications,
) -> None:
    specifications.set("fast", Settings(model="mlp:1", threads=4))
    found = {each.name: (each.model, each.version, dict(each.own)) for each in specifications.all()}
    assert found == {
        "colours": ("colours", 1, {}),
        "fast": ("mlp", 1, {"model": "mlp:1", "threads": 4}),
        "mlp": ("mlp", 1, {}),
    }
    assert specifications.resolved("fast").threads == 4
    assert specifications.resolved("fast") is specifications.resolved("fast")
    assert specifications.resolved("mlp").threads == 1
    specifications.set("fast", Settings(threads=5))
    assert specifications.resolved("fast").threads == 5


def test_a_request_is_for_the_version_that_it_names_else_for_that_of_the_settings(
    specifications: Specifications,
) -> None:
    specifications.set("fast", Settings(model="mlp:1"))
    specifications.set("colours", Settings(threads=2))
    assert specifications.target("fast") == ("mlp", "1")
    assert specifications.target("fast", "7") == ("mlp", "7")
    assert specifications.target("colours") == ("colours", "")
    assert specifications.target("unheard", "2") == ("unheard", "2")


@pytest.mark.parametrize(
    ("name", "fields", "error", "sentence"),
    [
        ("nope", {"threads": 2}, UnknownModel, "there is no model 'nope'"),
        ("mlp", {"model": "mlp:9"}, UnknownModel, "model mlp has no version '9'"),
        ("../x", {"threads": 2}, SettingsError, r"a function cannot be named '\.\./x'"),
    ],
)
def test_settings_are_only_taken_for_what_can_run(
    specifications: Specifications,
    name: str,
    fields: dict[str, Any],
    error: type[Exception],
    sentence: str,
) -> None:
    with pytest.raises(error, match=sentence):
        specifications.set(name, Settings(**fields))
    assert [dict(each.own) for each in specifications.all()] == [{}, {}]


def test_a_function_that_is_neither_published_nor_set_is_unknown(
    specifications: Specifications,
) -> None:
    with pytest.raises(UnknownModel, match="there is no model 'nope': the registry has colours, m"):
        specifications.show("nope")
