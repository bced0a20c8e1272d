"""``isthmus functions list``, ``show`` and ``set``: on a registry's folder, or at a gateway."""

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cloud_fn import config
from protos.documents import encode_json

if TYPE_CHECKING:
    from cloud_fn.functions.settings import Settings
    from cloud_fn.functions.specifications import Described, Specifications

_FIELDS: Mapping[str, tuple[str, str]] = {
    "model": ("NAME[:VERSION]", "what it runs (the newest version of the model of its name)"),
    "cpus": ("N", "how many processors an instance may run on"),
    "max-memory-bytes": ("N", "memory of an instance that cannot be given back at will"),
    "gpu": ("SHARE", "its share of a GPU, 0 to 1"),
    "threads": ("N", "ONNX Runtime's for one request"),
    "concurrency": ("N", "requests of an instance at one time"),
    "batching": ("off|auto|SIZE", "whether, and how many, requests run together"),
    "max-execution-s": ("S", "when a request's instance is ended"),
    "min-instances": ("N", "instances that stay whatever happens"),
    "max-instances": ("N", "instances at most"),
    "scaling": ("POLICY", "how long instances stay: fixed, histogram, ..."),
    "before": ("MODULE:CALLABLE", "a handler that the inputs go through"),
    "after": ("MODULE:CALLABLE", "a handler that the outputs go through"),
}


class _Functions(Protocol):
    """Functions somewhere; see :class:`cloud_fn.functions.specifications.Specifications`."""

    def all(self) -> "tuple[Described, ...]": ...

    def show(self, name: str) -> "Described": ...

    def set(
        self, name: str, changes: "Settings", *, unset: Collection[str], replace: bool
    ) -> "Described": ...


@dataclass(frozen=True, slots=True)
class _Remote:
    """The functions of a gateway that runs."""

    gateway: config.Address
    key: str | None

    def all(self) -> "tuple[Described, ...]":
        from cloud_fn import client

        return client.list_functions(self.gateway, key=self.key)

    def show(self, name: str) -> "Described":
        from cloud_fn import client

        return client.show_function(self.gateway, name, key=self.key)

    def set(
        self, name: str, changes: "Settings", *, unset: Collection[str], replace: bool
    ) -> "Described":
        from cloud_fn import client

        return client.set_function(
            self.gateway, name, changes, key=self.key, unset=tuple(unset), replace=replace
        )


def mount(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the actions."""
    listing = actions.add_parser("list", help="the functions, and what was set for each")
    listing.set_defaults(run=_list)
    show = actions.add_parser("show", help="what holds for a function, and whose each value is")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(run=_show)
    setting = actions.add_parser(
        "set", help="change a function's settings", formatter_class=argparse.RawTextHelpFormatter
    )
    setting.add_argument("name", metavar="NAME")
    setting.add_argument(
        "--file", type=Path, metavar="F.toml", help="all its settings, in the place of those before"
    )
    for field, (metavar, text) in _FIELDS.items():
        setting.add_argument(f"--{field}", metavar=metavar, help=text)
    setting.add_argument(
        "--provider",
        action="append",
        dest="providers",
        choices=("cpu", "cuda"),
        help="ONNX Runtime's, the preferred first; may be repeated",
    )
    setting.add_argument(
        "--env",
        action="append",
        dest="environment",
        metavar="NAME=VALUE",
        help="a variable of its instances, in the place of all before; may be repeated",
    )
    setting.add_argument(
        "--unset",
        action="append",
        default=[],
        metavar="FIELD",
        help="let the server's value hold again; may be repeated",
    )
    setting.set_defaults(run=_set)
    for action in (listing, show, setting):
        _add_where(action)


def _add_where(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--root",
        metavar="DIR",
        help="the registry (ISTHMUS_SERVE_REGISTRY, ~/.local/share/isthmus/registry)",
    )
    action.add_argument(
        "--config", type=Path, metavar="CLOUD.toml", help="the server's configuration file"
    )
    action.add_argument(
        "--gateway", metavar="HOST:PORT", help="a gateway that runs, in the place of a registry"
    )
    action.add_argument(
        "--key-file", type=Path, metavar="FILE", help="its first key opens the gateway's door"
    )
    action.add_argument("--json", action="store_true", help="print one JSON document")


def _list(args: argparse.Namespace) -> int:
    found = _functions(args).all()
    if args.json:
        _print_json(
            {"schema": "isthmus.functions/1", "functions": [_document(each) for each in found]}
        )
        return 0
    for each in found:
        own = "  ".join(f"{field}={json.dumps(value)}" for field, value in each.own.items())
        sys.stdout.write(f"{each.name:<32} {_runs(each):<36} {own or 'nothing set'}\n")
    if not found:
        sys.stderr.write("there are no functions: `isthmus registry push MODEL.onnx`\n")
    return 0


def _show(args: argparse.Namespace) -> int:
    _print(_functions(args).show(args.name), as_json=args.json)
    return 0


def _set(args: argparse.Namespace) -> int:
    from cloud_fn.functions.settings import SettingsError, parse

    table = {} if args.file is None else _table(args.file)
    what = f"the settings of {args.name}" if args.file is None else f"settings file {args.file}"
    changes = parse(table | _flags(args), what=what, strict=False)
    if not changes.given and not args.unset and args.file is None:
        raise SettingsError(
            "nothing to set: name a setting, such as --concurrency 8, or a file with --file"
        )
    made = _functions(args).set(args.name, changes, unset=args.unset, replace=args.file is not None)
    _print(made, as_json=args.json)
    return 0


def _flags(args: argparse.Namespace) -> dict[str, object]:
    """The settings that flags give, as a TOML table would hold them."""
    names = [flag.replace("-", "_") for flag in _FIELDS]
    given: dict[str, Any] = {name: getattr(args, name) for name in (*names, "providers")}
    found = {name: value for name, value in given.items() if value is not None}
    convert: dict[str, Callable[[str], object]] = {
        "batching": lambda text: {"max_size": int(text)} if text.isdecimal() else text,
        "scaling": lambda text: {"policy": text},
    }
    found |= {name: convert[name](found[name]) for name in convert if name in found}
    if args.environment is not None:
        found["environment"] = dict(map(_variable, args.environment))
    return found


def _variable(text: str) -> tuple[str, str]:
    from cloud_fn.functions.settings import SettingsError

    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"--env {text[:80]!r} is not NAME=VALUE: write it like --env MODE=fast")
    return name, value


def _table(path: Path) -> dict[str, object]:
    from cloud_fn.functions.settings import SettingsError

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"settings file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise SettingsError(f"settings file {path} is not a TOML file: {error}") from error


def _functions(args: argparse.Namespace) -> _Functions:
    if args.gateway is not None:
        from cloud_fn.auth import first_key

        key = first_key(args.key_file)
        return _Remote(config.Address.parse(args.gateway), key)
    return _local(args)


def _local(args: argparse.Namespace) -> "Specifications":
    from cloud_fn.functions.specifications import Specifications
    from cloud_fn.registry import Catalog
    from cloud_fn.registry.function_store import FunctionStore

    loaded = config.load(args.config, os.environ, {"registry": args.root})
    root = loaded.registry_path
    return Specifications(Catalog(root), FunctionStore(root), loaded.instance)


def _print(described: "Described", *, as_json: bool) -> None:
    if as_json:
        _print_json(_document(described))
        return
    since = f", set {described.changed}" if described.changed else ""
    sys.stdout.write(f"{described.name}  {_runs(described)}{since}\n")
    for field, each in described.settings.items():
        sys.stdout.write(f"  {field:<18} {json.dumps(each.value):<32} {each.source}\n")


def _runs(described: "Described") -> str:
    if not described.version:
        return f"runs {described.model}, which is not published"
    return f"runs {described.model}:{described.version}"


def _document(described: "Described") -> dict[str, object]:
    return {
        "name": described.name,
        "model": described.model,
        "version": described.version or None,
        "changed": described.changed or None,
        "settings": {
            field: {"value": each.value, "source": each.source}
            for field, each in described.settings.items()
        },
    }


def _print_json(value: object) -> None:
    sys.stdout.write(encode_json(value).decode())
