"""What stays on a node when there is no room for all: decisions, and the folders they are about."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_fn.config import Instance
from cloud_fn.functions import Function, retention
from cloud_fn.functions.node_cache import NodeCache, read_shelf, store_in, write_shelf
from cloud_fn.functions.retention import Item, Shelf
from cloud_fn.functions.settings import Settings, resolve
from cloud_fn.registry import Catalog, Manifest
from cloud_fn.registry.push import push
from planner.store import Store

NAMES = ("a", "b", "c", "d")


def use(shelf: Shelf, name: str, *, cost_s: float = 1.0, size_bytes: int = 1) -> Shelf:
    return retention.used(shelf, name, cost_s=cost_s, size_bytes=size_bytes)


def shelf_of(*names: str, **costs: float) -> Shelf:
    shelf = Shelf()
    for name in names:
        shelf = use(shelf, name, cost_s=costs.get(name, 1.0))
    return shelf


def test_what_is_seldom_used_goes_first() -> None:
    assert retention.order(shelf_of("a", "b", "a"), ["a", "b"]) == ("b", "a")


def test_what_is_cheap_to_make_again_goes_first() -> None:
    assert retention.order(shelf_of("a", "b", a=9.0), ["a", "b"]) == ("b", "a")


def test_what_is_large_goes_first() -> None:
    shelf = use(use(Shelf(), "a", size_bytes=10), "b", size_bytes=1)
    assert retention.order(shelf, ["b", "a"]) == ("a", "b")


def test_what_was_never_used_goes_before_all() -> None:
    assert retention.order(shelf_of("a"), ["a", "new"]) == ("new", "a")


def test_what_was_used_often_long_ago_goes_in_the_end() -> None:
    """The clock is at what the last one to go was worth, and so newcomers are worth more."""
    shelf = shelf_of("old", "old", "old")
    for turn in range(3):
        shelf = retention.gone(use(shelf, f"new{turn}"), f"new{turn}")
    assert shelf.clock == 3.0
    assert retention.order(use(shelf, "newest"), ["newest", "old"]) == ("old", "newest")


def test_what_it_cost_to_make_is_remembered_when_it_is_used_again() -> None:
    shelf = retention.used(shelf_of("a", a=5.0), "a", cost_s=None, size_bytes=1)
    assert shelf.items == {"a": Item(uses=2, cost_s=5.0, worth=10.0)}


@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.floats(0, 9), st.integers(1, 9), st.booleans()),
        max_size=40,
    )
)
def test_the_clock_never_goes_back_and_the_first_to_go_is_worth_least(
    events: list[tuple[str, float, int, bool]],
) -> None:
    shelf = Shelf()
    for name, cost_s, size_bytes, room in events:
        before = shelf.clock
        shelf = use(shelf, name, cost_s=cost_s, size_bytes=size_bytes)
        assert shelf.items[name].worth >= before
        if not room:
            first, *others = retention.order(shelf, sorted(shelf.items))
            worth = shelf.items[first].worth
            assert all(shelf.items[other].worth >= worth for other in others)
            shelf = retention.gone(shelf, first)
            assert shelf.clock == max(before, worth)
            assert first not in shelf.items


def fill(store: Store, key: str, size_bytes: int) -> None:
    def write(folder: Path) -> dict[str, str]:
        (folder / "data").write_bytes(bytes(size_bytes))
        return {}

    store.get(key, write)


def there(folder: Path) -> set[str]:
    return {entry.folder.name for entry in Store(folder).entries()}


@pytest.fixture
def versions(catalog: Catalog, mlp: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """Folders of two versions below ``node``, with what each has made."""
    cache = NodeCache(tmp_path / "node")
    folders = []
    for seed in (0, 1):
        folder = cache.folder(push(catalog, mlp(seed=seed), name="m")[0])
        assert folder is not None
        folders.append(folder)
    for folder, key, size_bytes in (
        (folders[0], "often", 4000),
        (folders[1], "once", 4000),
        (folders[1], "large", 40_000),
    ):
        fill(store_in(folder), key, size_bytes)
    for _ in range(5):
        assert store_in(folders[0]).find("often") is not None
    return folders


def level(folder: Path) -> None:
    """Have all entries cost the same, whatever this machine took to make them."""
    shelf = Shelf()
    for entry in Store(folder).entries():
        for _ in range(read_shelf(folder).items[entry.folder.name].uses):
            shelf = use(shelf, entry.folder.name, size_bytes=entry.size_bytes)
    write_shelf(folder, shelf)


def test_a_function_with_handlers_has_a_folder_to_itself(
    catalog: Catalog, published: dict[str, Manifest]
) -> None:
    """Its code could else change what the instances of another open."""
    resolved = resolve(Settings(), Instance())
    handled = resolve(Settings(before="handlers:before"), Instance())
    folders = [
        Function.of(published["mlp"], catalog, name=name, settings=settings).cache_path
        for name, settings in (("mlp", resolved), ("b", resolved), ("c", handled), ("d", handled))
    ]
    assert folders[0] == folders[1]
    assert len(set(folders)) == 3


def test_uses_are_counted_in_the_versions_own_folder(versions: list[Path]) -> None:
    assert {n: item.uses for n, item in read_shelf(versions[0]).items.items()} == {"often": 6}
    assert {n: i.uses for n, i in read_shelf(versions[1]).items.items()} == {"once": 1, "large": 1}


def test_over_all_versions_what_is_worth_least_goes_until_the_rest_fits(
    versions: list[Path],
) -> None:
    for folder in versions:
        level(folder)
    NodeCache(versions[0].parent, most_bytes=10_000).trim()
    assert (there(versions[0]), there(versions[1])) == ({"often"}, {"once"})
    NodeCache(versions[0].parent, most_bytes=5000).trim()
    assert (there(versions[0]), there(versions[1])) == ({"often"}, set())
    assert read_shelf(versions[0]).clock == read_shelf(versions[1]).clock > 0


def test_what_a_process_holds_stays(versions: list[Path]) -> None:
    held = store_in(versions[1]).find("large")
    assert held is not None
    NodeCache(versions[0].parent, most_bytes=1).trim()
    assert (there(versions[0]), there(versions[1])) == (set(), {"large"})


def test_within_a_version_the_same_holds(tmp_path: Path) -> None:
    for key in ("a", "b"):
        fill(store_in(tmp_path), key, 1000)
    store_in(tmp_path).find("a")
    store_in(tmp_path).find("a")
    level(tmp_path)
    tight = Store(tmp_path, most_bytes=2600, keeping=store_in(tmp_path)._keeping)
    fill(tight, "c", 1000)
    assert there(tmp_path) == {"a", "c"}


def test_a_shelf_that_is_damaged_forgets_and_goes_on(tmp_path: Path) -> None:
    fill(store_in(tmp_path), "a", 10)
    (tmp_path / "shelf.json").write_text("{")
    assert read_shelf(tmp_path) == Shelf()
    assert store_in(tmp_path).find("a") is not None
    assert read_shelf(tmp_path).items["a"].uses == 1
