"""Who may enter."""

from pathlib import Path

import pytest

from cloud_fn.auth import Keys
from cloud_fn.errors import ServeError, Unauthenticated

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


def a_key_file(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_without_a_key_file_everybody_may_enter() -> None:
    Keys.read(None).check(None)


def test_every_key_of_the_file_opens_and_no_other(tmp_path: Path) -> None:
    keys = Keys.read(a_key_file(tmp_path, f"# two keys\n{KEY}\n\n  {OTHER} \n"))
    keys.check(f"Bearer {KEY}")
    keys.check(f"bearer  {OTHER}")
    for shown in (None, "", KEY, f"Basic {KEY}", f"Bearer {KEY}x", "Bearer ", "Bearer # two keys"):
        with pytest.raises(Unauthenticated):
            keys.check(shown)


def test_no_key_can_be_found_in_what_is_kept(tmp_path: Path) -> None:
    keys = Keys.read(a_key_file(tmp_path, KEY))
    assert KEY not in repr(vars(keys))


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "short\n", f"{KEY}\nshort\n", "kéy-0123456789abc"]
)
def test_a_file_without_usable_keys_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ServeError, match="key file"):
        Keys.read(a_key_file(tmp_path, text))


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = a_key_file(tmp_path, KEY, 0o640)
    with pytest.raises(ServeError) as caught:
        Keys.read(path)
    assert str(caught.value) == f"key file {path} can be read by others: run `chmod 600 {path}`"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="cannot be read: No such file"):
        Keys.read(tmp_path / "none")
