"""What a declared step becomes once it is known what it reads: tensors and a function."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np

from planner.errors import InputError, StepsError
from planner.graph import UNKNOWN, TensorInfo
from protos.tensors import Array

Names = str | tuple[str, ...] | None
"""One tensor, several in the order that the step's description gives, or the usual one."""

Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=1 << 24)]
Finite = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]
Positive = Annotated[float, msgspec.Meta(ge=1e-30, le=1e30)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
FileName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]

Values = dict[str, Array]
Function = Callable[..., tuple[Array, ...]]


class Unfit(StepsError):
    """A step cannot do with what it reads; the message goes on after the step's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor between steps, as far as it is known before there is an input.

    ``columns`` names the cells of a table's row. ``rate`` is a sound's samples a second, or the
    tensor that says so where only the message knows. ``colour`` is an image's channel order.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()
    rate: int | str | None = None
    colour: str | None = None

    @property
    def info(self) -> TensorInfo:
        return TensorInfo(name=self.name, datatype=self.datatype, shape=self.shape)

    def made(
        self,
        name: str,
        *,
        datatype: str | None = None,
        shape: tuple[int, ...] | None = None,
        rate: int | None = None,
        colour: str | None = None,
    ) -> "Value":
        """What a step makes of it: the same but for what is given."""
        return dataclasses.replace(
            self,
            name=name,
            datatype=self.datatype if datatype is None else datatype,
            shape=self.shape if shape is None else shape,
            rate=self.rate if rate is None else rate,
            colour=self.colour if colour is None else colour,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a step is to be fitted to.

    ``given`` are the tensors that it reads, ``makes`` the names of those that it is to make, and
    ``files`` what the files hold that the steps name.
    """

    given: Sequence[Value]
    makes: Sequence[str]
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A step that knows what it makes, and how.

    ``run`` takes an array for each tensor that the step reads, then one for each of ``also``
    (tensors that it needs besides), and gives one for each of ``makes``.
    """

    makes: tuple[Value, ...]
    run: Function
    also: tuple[str, ...] = ()


class Step(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="step",
):
    """One operation before or after the network.

    ``reads`` is by default what the step before it made (the first reads the sensor's message;
    the first after the network, its only output). ``makes`` is by default called after the step,
    and the last step's before the network is the network's input.
    """

    reads: Names = None
    makes: Names = None

    takes: ClassVar[int] = 1
    """How many tensors it reads, at least."""
    several: ClassVar[bool] = False
    """Whether ``reads`` may name more than that."""
    files: ClassVar[tuple[str, ...]] = ()
    """Its fields that name files."""
    feeds: ClassVar[bool] = False
    """Whether its tensors are called as the network's inputs are, of themselves."""

    @property
    def kind(self) -> str:
        return str(type(self).__struct_config__.tag)

    @property
    def named(self) -> tuple[str, ...]:
        """What ``makes`` says, as a tuple."""
        return _tuple(self.makes)

    @property
    def read(self) -> tuple[str, ...]:
        """What ``reads`` says, as a tuple; empty where it says nothing."""
        return _tuple(self.reads)

    @property
    def file_names(self) -> tuple[str, ...]:
        names = (getattr(self, field) for field in self.files)
        return tuple(name for name in names if name is not None)

    @property
    def roles(self) -> tuple[str, ...]:
        """What its tensors are called where ``makes`` does not say."""
        return (self.kind,)

    def problem(self) -> str | None:
        """What is wrong with the fields taken together; the sentence goes on after the name."""
        return None

    def bind(self, ask: Ask) -> Bound:
        """Fit the step to what it reads.

        Raises:
            Unfit: it cannot do with that.
        """
        raise TypeError(f"{type(self).__name__} must say how it makes {ask.makes}")


class Decoder(Step, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step that reads the sensor's message: a BYTES tensor of shape (1,)."""

    def made_up(self) -> bytes:
        """A plausible message, for where no sample is at hand."""
        raise TypeError(f"{type(self).__name__} must make up a message")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A step as part of a piece: call it with at least its inputs to get its outputs."""

    step: Step
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    function: Function

    def __call__(self, values: Mapping[str, Array]) -> Values:
        """Run the step.

        Raises:
            InputError: it cannot run on these values.
            StepsError: a library or a file that it needs is not there.
        """
        try:
            with np.errstate(all="ignore"):  # a value that is no number is an answer, no warning
                made = self.function(*(values[name] for name in self.inputs))
        except (ValueError, ArithmeticError, LookupError, MemoryError, OSError) as error:
            # numpy's, Pillow's and SciPy's refusals of a size or value that no check foresaw
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"step {self.step.kind} cannot run on this input: {reason}") from error
        return dict(zip(self.outputs, made, strict=True))


def single(value: Value, function: Callable[..., Array], *, also: tuple[str, ...] = ()) -> Bound:
    """A step that makes one tensor."""
    return Bound(makes=(value,), run=lambda *arrays: (function(*arrays),), also=also)


def check(
    value: Value, datatypes: Sequence[str], *, ranks: Sequence[int] = (), what: str = ""
) -> Value:
    """Give *value* back if a step may read it; *ranks* are the dimensions it may have.

    Raises:
        Unfit: it is of another type or has another number of dimensions.
    """
    wrong_rank = bool(ranks) and len(value.shape) not in ranks
    if value.datatype not in datatypes or wrong_rank:
        many = f" of {' or '.join(map(str, ranks))} dimensions" if ranks else ""
        raise Unfit(
            f"reads {value.name!r}, which is {value.datatype or 'no tensor'} {list(value.shape)}: "
            f"it takes {what + ', ' if what else ''}{' or '.join(datatypes)}{many}"
        )
    return value


def fits(found: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a shape can be another, where either may be unknown in part."""
    return len(found) == len(wanted) and all(
        a == b or UNKNOWN in (a, b) for a, b in zip(found, wanted, strict=True)
    )


def spread(values: Sequence[float], width: int, field: str) -> np.ndarray:
    """*values* for each of the *width* entries of the last dimension, float64; one is for all.

    Raises:
        Unfit: there are neither one nor *width* of them.
    """
    if len(values) not in (1, width) and width != UNKNOWN:
        raise Unfit(f"has {len(values)} in {field}: it takes 1 or {width}")
    return np.asarray(values, dtype=np.float64)


def text_lines(data: bytes, name: str) -> tuple[str, ...]:
    """The lines of a text file that steps name.

    Raises:
        Unfit: it is no UTF-8 text, or empty.
    """
    try:
        lines = tuple(line.rstrip("\r") for line in data.decode().removesuffix("\n").split("\n"))
    except UnicodeDecodeError as error:
        raise Unfit(f"names {name}, which is no UTF-8 text: save it as UTF-8") from error
    if lines == ("",):
        raise Unfit(f"names {name}, which is empty: write one entry a line")
    return lines


def message_of(value: Array) -> bytes:
    """The sensor's message as bytes.

    Raises:
        InputError: it is neither bytes nor text.
    """
    item = value.reshape(-1)[0]
    if isinstance(item, str):
        return item.encode()
    if not isinstance(item, bytes):
        raise InputError(f"the message is of type {type(item).__name__}: send bytes")
    return item


def as_bytes_array(items: Sequence[bytes]) -> Array:
    """A BYTES tensor of shape ``(len(items),)``."""
    out = np.empty(len(items), dtype=np.object_)
    out[:] = items
    return out


def library(name: str, extra: str) -> Any:  # noqa: ANN401  a module that has no types
    """Import an optional library when it is first needed.

    Raises:
        StepsError: it is not installed, or lacks a library of its own.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise StepsError(
            f"these steps need the library {name}, which is not there: run "
            f'`pip install "isthmus[{extra}]"`'
        ) from error


def _tuple(names: Names) -> tuple[str, ...]:
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else names
