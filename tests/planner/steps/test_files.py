"""Files that steps name: only beside the steps file, and part of the model's digest."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from planner.errors import StepsError
from planner.steps import beside, load


def a_steps_file(folder: Path, labels: str, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    path = folder / "steps.json"
    steps = {
        "schema": "isthmus.steps/1",
        "before": [{"step": "decode"}],
        "after": [{"step": "top_k", "labels_file": labels}],
    }
    path.write_text(json.dumps(steps))
    return path


def test_a_file_beside_or_below_is_read_once_for_all_steps(tmp_path: Path) -> None:
    loaded = load(a_steps_file(tmp_path, "lists/l.txt", {"lists/l.txt": b"a\n"}))
    assert loaded.files == {"lists/l.txt": b"a\n"}


@pytest.mark.parametrize("name", ["/etc/hostname", "../l.txt", "a/../../l.txt", "a\\l.txt"])
def test_a_file_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "l.txt").write_bytes(b"a\n")
    path = a_steps_file(tmp_path / "inner", name, {})
    with pytest.raises(StepsError, match="must lie in the steps file's own folder"):
        load(path)


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"a\n")
    path = a_steps_file(tmp_path / "inner", "out.txt", {"l.txt": b"a\n"})
    (path.parent / "out.txt").symlink_to(tmp_path / "secret")
    (path.parent / "in.txt").symlink_to("l.txt")
    with pytest.raises(StepsError, match=r"names 'out.txt': a file must lie in the steps file's"):
        load(path)
    assert beside(path, "in.txt").read_bytes() == b"a\n"


def test_a_folder_of_links_is_refused_when_it_leads_out(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "l.txt").write_bytes(b"a\n")
    path = a_steps_file(tmp_path / "inner", "sub/l.txt", {})
    (path.parent / "sub").symlink_to(tmp_path / "other")
    with pytest.raises(StepsError, match="must lie in the steps file's own folder"):
        load(path)


@pytest.mark.parametrize("name", ["l.txt", "sub", "x" * 255, "a\0b", "loop"])
def test_what_is_no_file_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StepsError, match="which is no file: put it there"):
        load(a_steps_file(tmp_path, name, {}))


def test_what_a_file_holds_is_part_of_the_digest_and_its_name_is_not(tmp_path: Path) -> None:
    digests = [
        load(a_steps_file(tmp_path / str(index), name, {name: data})).digest("network")
        for index, (name, data) in enumerate(
            [("l.txt", b"a\n"), ("other.txt", b"a\n"), ("l.txt", b"b\n")]
        )
    ]
    assert digests[0] == digests[1] != digests[2]


def test_steps_without_files_keep_their_bytes_and_the_digest_of_these(tmp_path: Path) -> None:
    """The digest of plans and profiles that were made before steps could name files."""
    path = tmp_path / "steps.json"
    path.write_text('{"schema": "isthmus.steps/1",   "before": [{"step": "decode"}]}')
    loaded = load(path)
    assert loaded.stored == path.read_bytes()
    assert loaded.digest("ab") == hashlib.sha256(b"ab" + path.read_bytes()).hexdigest()


def test_stored_by_their_contents_steps_and_files_are_the_same_model(tmp_path: Path) -> None:
    """As a registry keeps them: each file under its SHA-256, all in one folder."""
    loaded = load(a_steps_file(tmp_path / "a", "l.txt", {"l.txt": b"a\n"}))
    store = tmp_path / "store"
    store.mkdir()
    for data in (loaded.stored, *loaded.files.values()):
        (store / hashlib.sha256(data).hexdigest()).write_bytes(data)
    again = load(store / hashlib.sha256(loaded.stored).hexdigest())
    assert again.digest("network") == loaded.digest("network")
    assert list(again.files.values()) == [b"a\n"]
