"""A function's settings: what its owner asks for, and what is so where nothing was asked for."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from cloud_fn.config import Instance
from cloud_fn.errors import InvalidRequest
from cloud_fn.functions.scaling import Fixed, Scaling
from cloud_fn.registry.manifest import is_name, parse_version

HANDLER = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
"""``package.module:callable``, which is no path and can leave no folder."""

MAX_INSTANCES = 8
"""``max_instances`` where nobody says; each takes its own memory."""

_MiB = 1 << 20
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_RESERVED = ("LD_", "PYTHON", "RAY_", "ISTHMUS_")
_MAX_VARIABLES = 64
_MAX_VALUE_CHARS = 4096

_Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]

Provider: TypeAlias = Literal["cpu", "cuda"]


class SettingsError(InvalidRequest):
    """A setting that there is not, or that may not have this value."""


class Batching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests that run together.

    Attributes:
        max_size: rows of axis 0 that one batch has at most.
        max_wait_s: how much longer than alone a request may take for the sake of the others in
            its batch. A request that could run at once never waits for others.
        pad: where requests may differ in axis 1, the inputs that are padded there and with what,
            the model's mask among them.
    """

    max_size: Annotated[int, msgspec.Meta(ge=2, le=1024)] = 16
    max_wait_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 1.0
    pad: dict[str, float] = {}


class Settings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What a function's owner asks for; None is whatever :func:`resolve` finds instead.

    Attributes:
        model: what it runs, ``NAME`` or ``NAME:VERSION``; by default the newest version of the
            model of the function's own name.
        cpus: how many processors an instance may run on; by default all.
        max_memory_bytes: memory of an instance that cannot be given back at will.
        gpu: the share of a GPU that an instance takes, 0 to 1.
        providers: ONNX Runtime's, the preferred first.
        threads: ONNX Runtime's for one request.
        concurrency: requests of an instance at one time; see also :meth:`Resolved.places`.
        batching: ``off``, ``auto`` (as measured when the version was published), or how.
        max_execution_s: when a request's instance is ended.
        min_instances: instances that stay whatever happens.
        max_instances: instances at most.
        scaling: how long instances stay.
        environment: variables of its instances, no secrets: whoever may ask for the settings sees
            them.
        before: a handler ``package.module:callable`` that the inputs go through.
        after: one that the outputs go through.
    """

    model: str | None = None
    cpus: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    max_memory_bytes: Annotated[int, msgspec.Meta(ge=16 * _MiB, le=1 << 44)] | None = None
    gpu: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    providers: Annotated[tuple[Provider, ...], msgspec.Meta(min_length=1)] | None = None
    threads: _Count | None = None
    concurrency: _Count | None = None
    batching: Literal["off", "auto"] | Batching | None = None
    max_execution_s: _Seconds | None = None
    min_instances: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None
    max_instances: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    scaling: Scaling | None = None
    environment: dict[str, str] | None = None
    before: str | None = None
    after: str | None = None

    def __post_init__(self) -> None:
        if self.model is not None:
            split_model(self.model)
        if self.providers is not None and len(set(self.providers)) < len(self.providers):
            raise ValueError("providers names one twice: name each once, the preferred first")
        for name, value in (self.environment or {}).items():
            _check_variable(name, value)
        if len(self.environment or {}) > _MAX_VARIABLES:
            raise ValueError(f"environment has more than {_MAX_VARIABLES} variables: use fewer")
        for field, handler in (("before", self.before), ("after", self.after)):
            if handler is not None and HANDLER.fullmatch(handler) is None:
                raise ValueError(
                    f"{field} is {handler[:80]!r}: write a handler as package.module:callable"
                )

    @property
    def given(self) -> Mapping[str, object]:
        """What is asked for, by field."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What holds for a function; see :class:`Settings` for the fields.

    ``model`` is None where the function runs the model of its own name, ``cpus`` where it may run
    on all. ``sources`` says of each field whether it is the ``function``'s own, the ``server``'s
    (``[instance]`` in its configuration), or the ``default`` of a function that nothing is said of.
    """

    model: str | None
    cpus: int | None
    max_memory_bytes: int
    gpu: float
    providers: tuple[Provider, ...]
    threads: int
    concurrency: int
    batching: Literal["off", "auto"] | Batching
    max_execution_s: float
    start_timeout_s: float
    min_instances: int
    max_instances: int
    scaling: Scaling
    environment: Mapping[str, str]
    before: str | None
    after: str | None
    sources: Mapping[str, Literal["function", "server", "default"]]

    def places(self, *, batched: bool) -> int:
        """How many requests an instance is given at one time.

        Where its owner has said how large batches may be and not this, as many as one may have; not
        where no requests are *batched*, who would only share an instance's processors.
        """
        if not batched or not isinstance(self.batching, Batching):
            return self.concurrency
        if self.sources["concurrency"] == "function":
            return self.concurrency
        return max(self.concurrency, self.batching.max_size)


def resolve(settings: Settings | None, defaults: Instance) -> Resolved:
    """What holds for a function of these *settings*, on a server of these *defaults*.

    Where only one of ``min_instances`` and ``max_instances`` is asked for, the other gives way.
    """
    own = {} if settings is None else settings.given
    server: dict[str, Any] = {
        "threads": defaults.threads,
        "concurrency": defaults.concurrency,
        "max_memory_bytes": defaults.max_memory_bytes,
        "max_execution_s": defaults.max_execution_s,
        "start_timeout_s": defaults.start_timeout_s,
        "scaling": Fixed(keep_alive_s=defaults.keep_alive_s),
    }
    built_in: dict[str, Any] = {
        "model": None,
        "cpus": None,
        "gpu": 0.0,
        "providers": ("cpu",),
        "batching": "auto",
        "min_instances": 0,
        "max_instances": max(MAX_INSTANCES, own.get("min_instances", 0)),  # type: ignore[call-overload]
        "environment": {},
        "before": None,
        "after": None,
    }
    return Resolved(
        **(built_in | server | dict(own)),
        sources={
            **dict.fromkeys(built_in, "default"),
            **dict.fromkeys(server, "server"),
            **dict.fromkeys(own, "function"),
        },
    )


def parse(fields: Mapping[str, object], *, what: str, strict: bool = True) -> Settings:
    """Read settings from a TOML table, a JSON object or (not *strict*) texts.

    Raises:
        SettingsError: a field is unknown, or its value wrong.
    """
    try:
        return msgspec.convert(fields, Settings, strict=strict)
    except msgspec.ValidationError as error:
        sentence = str(error).replace(" - at `$.", " at field `").replace(" - at `$`", "")
        raise SettingsError(f"{what} is not valid: {sentence}") from error


def changed(
    base: Settings | None,
    changes: Settings,
    *,
    unset: Collection[str] = (),
    replace: bool = False,
) -> Settings:
    """The settings that a function has after a change.

    Args:
        base: what it has; None is nothing.
        changes: fields to set; those that are None stay as they are.
        unset: fields that become None.
        replace: whether all that is not in *changes* becomes None.

    Raises:
        SettingsError: there is no such field, or the settings do not go together.
    """
    if unknown := sorted(set(unset) - set(Settings.__struct_fields__)):
        known = ", ".join(Settings.__struct_fields__)
        raise SettingsError(f"there is no setting {unknown[0][:80]!r}: there are {known}")
    if both := sorted(set(unset) & set(changes.given)):
        raise SettingsError(f"{both[0]} is both set and unset: do one of the two")
    before = {} if base is None or replace else dict(base.given)
    kept = {name: value for name, value in before.items() if name not in unset}
    made = Settings(**(kept | dict(changes.given)))  # type: ignore[arg-type]
    check(made)
    return made


def check(settings: Settings) -> None:
    """Refuse settings each of which may be, but not all of them together.

    Raises:
        SettingsError: they do not go together.
    """
    least, most = settings.min_instances, settings.max_instances
    if least is not None and most is not None and least > most:
        raise SettingsError(
            f"min_instances is {least} and max_instances is {most}: let max_instances be no less"
        )
    on_gpu = "cuda" in (settings.providers or ())
    if on_gpu and not settings.gpu:
        raise SettingsError("providers has cuda but gpu is 0: say which share of a GPU it takes")
    if settings.gpu and not on_gpu:
        raise SettingsError(
            f"gpu is {settings.gpu:g} but providers has no cuda: "
            'set providers = ["cuda", "cpu"], or gpu to 0'
        )


def split_model(text: str) -> tuple[str, str]:
    """Part ``NAME`` or ``NAME:VERSION``; the version is empty for the newest.

    Raises:
        ValueError: it is neither.
    """
    name, colon, version = text.partition(":")
    if not is_name(name) or (colon and parse_version(version) is None):
        raise ValueError(f"model is {text[:80]!r}: write NAME or NAME:VERSION, such as mobilenet:3")
    return name, version


def _check_variable(name: str, value: str) -> None:
    if _VARIABLE.fullmatch(name) is None:
        raise ValueError(
            f"environment names {name[:80]!r}: a variable has letters, digits and _ only, and no "
            "digit first"
        )
    if name.upper().startswith(_RESERVED):
        raise ValueError(
            f"environment names {name}: what begins with {', '.join(_RESERVED)} is not a "
            "function's to set"
        )
    if "\0" in value or len(value) > _MAX_VALUE_CHARS:
        raise ValueError(
            f"environment gives {name} a value with a NUL or of more than {_MAX_VALUE_CHARS} "
            "characters: shorten it"
        )
