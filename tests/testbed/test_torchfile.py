"""Weights are data: whatever a file says, it is tensors or an error."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import TestbedError
from testbed.torchfile import MAGIC, VERSION, parse_state, read_state


def plain(value: object) -> bytes:
    """The opcodes that push a plain value: a pickle without its frame."""
    return pickle.dumps(value, protocol=2)[2:-1]


def named(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + pickle.MARK + b"".join(arguments) + pickle.TUPLE + pickle.REDUCE


def referred(*parts: bytes) -> bytes:
    return pickle.MARK + b"".join(parts) + pickle.TUPLE + pickle.BINPERSID


def a_tensor(
    shape: tuple[int, ...] = (2, 3),
    strides: tuple[int, ...] = (3, 1),
    *,
    offset: int = 0,
    count: int = 6,
) -> bytes:
    """As PyTorch writes one, over the storage ``7``."""
    floats = named("torch", "FloatStorage")
    tail = (plain(part) for part in ("7", "cpu", count, None))
    return called(
        named("torch._utils", "_rebuild_tensor_v2"),
        referred(plain("storage"), floats, *tail),
        *(plain(part) for part in (offset, shape, strides, False)),
        called(named("collections", "OrderedDict")),
    )


def a_state(**tensors: bytes) -> bytes:
    items = b"".join(plain(name) + tensor for name, tensor in tensors.items())
    return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS


def a_file(
    state: bytes, *, magic: int = MAGIC, floats: tuple[float, ...] = (1, 2, 3, 4, 5, 6)
) -> bytes:
    before = (plain(part) for part in (magic, VERSION, {"little_endian": True}))
    pickles = (*before, state, plain(["7"]))
    framed = b"".join(pickle.PROTO + b"\x02" + part + pickle.STOP for part in pickles)
    return framed + struct.pack(f"<q{len(floats)}f", len(floats), *floats)


def test_a_tensor_is_read_with_its_strides_and_offset() -> None:
    state = parse_state(
        a_file(a_state(w=a_tensor(), t=a_tensor((3, 2), (1, 3)), b=a_tensor((2,), (2,), offset=1)))
    )
    assert {name: array.tolist() for name, array in state.items()} == {
        "w": [[1, 2, 3], [4, 5, 6]],
        "t": [[1, 4], [2, 5], [3, 6]],
        "b": [2, 4],
    }
    assert state["w"].dtype == np.float32


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it is malformed (ValueError)"),
        (a_file(a_state(), magic=1), "it is no PyTorch file of the format before 1.6"),
        (a_file(plain([])), "it holds no dictionary of tensors"),
        (a_file(a_state(w=a_tensor()))[:-1], "it is truncated"),
        (a_file(a_state(w=a_tensor(count=7))), "it is truncated"),
        (
            a_file(a_state(w=a_tensor(offset=1))),
            "it holds a tensor that reaches beyond its storage",
        ),
        (
            a_file(a_state(w=a_tensor((10**6, 10**6), (0, 0)))),
            "it holds a tensor that reaches beyond its storage",
        ),
        (a_file(a_state(w=a_tensor((2, 3), (-3, 1)))), "it holds a tensor of no sensible shape"),
        (
            a_file(a_state(w=called(named("os", "system"), plain("true")))),
            "it asks for os.system, and only tensors are allowed",
        ),
        (
            a_file(a_state(w=called(named("builtins", "eval"), plain("1")))),
            "it asks for builtins.eval, and only tensors are allowed",
        ),
        (
            a_file(a_state(w=plain(1) + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f")),
            "it numbers its parts beyond all reason",
        ),
        (
            a_file(a_state(w=referred(plain("module"), plain("x")))),
            "it refers to something that is no storage",
        ),
    ],
)
def test_what_is_not_tensors_is_refused_in_a_sentence(data: bytes, problem: str) -> None:
    with pytest.raises(TestbedError) as caught:
        parse_state(data)
    assert str(caught.value) == problem


def test_the_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with pytest.raises(TestbedError, match=r"weights .*w\.pth cannot be read: No such file"):
        read_state(path)
    path.write_bytes(b"PK")
    with pytest.raises(TestbedError, match=r"weights .*w\.pth cannot be used: it is malformed"):
        read_state(path)


GOOD = a_file(a_state(w=a_tensor()))


@given(st.binary(max_size=80))
def test_any_bytes_are_tensors_or_an_error(data: bytes) -> None:
    with pytest.raises(TestbedError):
        parse_state(data)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_damaged_file_is_tensors_or_an_error(place: int, value: int) -> None:
    damaged = GOOD[:place] + bytes([value]) + GOOD[place + 1 :]
    try:
        state = parse_state(damaged)
    except TestbedError:
        return
    assert all(isinstance(array, np.ndarray) for array in state.values())
