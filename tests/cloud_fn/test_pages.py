"""Weights that have to come from the disk are asked for while a session is opened over them."""

import mmap
import os
from pathlib import Path

import pytest

from cloud_fn.functions import pages
from cloud_fn.functions.pages import coming, is_cold, populate

SIZE_BYTES = 8 << 20
LIMIT_S = 30


@pytest.fixture(autouse=True)
def few_bytes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "LARGE_BYTES", SIZE_BYTES)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights with a space"
    path.write_bytes(os.urandom(SIZE_BYTES))
    return path


@pytest.fixture
def cold(weights: Path) -> Path:
    with weights.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if not is_cold(weights):
        pytest.skip("this file system keeps its files in memory")
    return weights


def test_what_is_in_memory_is_left_alone(weights: Path) -> None:
    assert not is_cold(weights)
    with coming(weights) as thread:
        assert thread is None


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_what_is_not_there_or_empty_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").touch()
    with coming(tmp_path / name) as thread:
        assert thread is None


def test_what_is_small_is_left_to_the_run(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "LARGE_BYTES", SIZE_BYTES + 1)
    with coming(cold) as thread:
        assert thread is None


def test_what_is_not_in_memory_is_brought_there(cold: Path) -> None:
    with coming(cold) as thread:
        assert thread is not None
        with cold.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert not is_cold(cold)
    mapping.close()


def test_a_session_that_fails_leaves_no_thread_waiting(cold: Path) -> None:
    beside = coming(cold)
    thread = beside.__enter__()
    assert thread is not None
    beside.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    thread.join(LIMIT_S)
    assert not thread.is_alive()


def test_all_mappings_of_a_file_are_filled_and_no_others(weights: Path) -> None:
    with weights.open("rb") as file:
        first = mmap.mmap(file.fileno(), SIZE_BYTES // 2, access=mmap.ACCESS_READ)
        second = mmap.mmap(
            file.fileno(), mmap.PAGESIZE, access=mmap.ACCESS_READ, offset=SIZE_BYTES // 2
        )
    try:
        filled = populate(weights)
    except OSError as error:
        pytest.skip(f"this kernel cannot: {error}")
    assert filled == SIZE_BYTES // 2 + mmap.PAGESIZE
    first.close()
    second.close()
    assert populate(weights) == 0
