"""What a push makes of a version for this kind of machine, and who else may make it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from cloud_fn.errors import RegistryError
from cloud_fn.functions import Function
from cloud_fn.registry import Catalog, Manifest, optimising
from cloud_fn.registry.optimising import optimise
from cloud_fn.registry.push import push
from cloud_fn.registry.variants import pays
from planner.errors import ModelError
from planner.target import Target, this_target

VAX = Target(architecture="vax", features=(), onnxruntime="1.0")


def test_a_push_makes_the_version_ready_for_this_kind_of_machine_once(
    catalog: Catalog, mlp: Callable[..., Path]
) -> None:
    manifest, _ = push(catalog, mlp())
    (made,) = catalog.variants(manifest)
    assert made.target == this_target()
    assert made.open_s > 0
    push(catalog, mlp())
    assert catalog.variants(manifest) == (made,)
    assert optimise(catalog, manifest) == (made, False)


def test_each_kind_of_machine_has_a_variant_of_its_own(
    catalog: Catalog, published: dict[str, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = published["mlp"]
    (ours,) = catalog.variants(manifest)
    monkeypatch.setattr(optimising, "this_target", lambda: VAX)
    theirs, new = optimise(catalog, manifest)
    assert new
    assert (theirs.target, catalog.variants(manifest)) == (VAX, (ours, theirs))
    ready = Function.of(manifest, catalog).ready
    assert [each.target for each in ready] == [this_target().id, VAX.id]


def test_several_at_once_make_it_once(
    catalog: Catalog, published: dict[str, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is a file's: processes are as good as threads."""
    monkeypatch.setattr(optimising, "this_target", lambda: VAX)
    together = threading.Barrier(3)

    def one(_: int) -> bool:
        together.wait(10)
        return optimise(Catalog(catalog.root), published["mlp"])[1]

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(one, range(3))) == [False, False, True]


def test_what_cannot_be_made_ready_is_published_all_the_same(
    catalog: Catalog, mlp: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise ModelError("onnxruntime refuses the model")

    monkeypatch.setattr(optimising, "compile_ready", refused)
    said: list[str] = []
    manifest, new = push(catalog, mlp(), say=said.append)
    assert new
    assert said[-1] == ("mlp:1 is published, but not optimised: onnxruntime refuses the model")
    assert Function.of(manifest, catalog).ready == ()


def test_a_list_that_is_damaged_hides_nothing_but_itself_and_is_written_again(
    catalog: Catalog, published: dict[str, Manifest], mlp: Callable[..., Path]
) -> None:
    manifest = published["mlp"]
    (catalog.root / "models" / "mlp" / "variants" / "1.json").write_text("{")
    assert Function.of(manifest, catalog).ready == ()
    with pytest.raises(RegistryError, match="; push the model again"):
        catalog.variants(manifest)
    push(catalog, mlp())
    assert [each.target for each in catalog.variants(manifest)] == [this_target()]


def test_a_list_for_another_content_is_none(
    catalog: Catalog, published: dict[str, Manifest]
) -> None:
    other = msgspec.structs.replace(published["mlp"], digest="0" * 64)
    assert catalog.variants(other) == ()


@pytest.mark.parametrize(
    ("mapped_s", "prepacked_s", "is_worth"),
    [(1.05, 1.0, True), (1.049, 1.0, False), (0.9, 1.0, False), (None, None, False)],
)
def test_a_copy_of_the_weights_pays_from_a_twentieth_on(
    mapped_s: float | None,
    prepacked_s: float | None,
    is_worth: bool,  # noqa: FBT001
) -> None:
    assert pays(mapped_s, prepacked_s) is is_worth
