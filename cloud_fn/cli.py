"""``isthmus serve``, ``isthmus registry`` and ``isthmus functions``."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cloud_fn import backtest_cli, config, controller_cli, functions_cli, jobs_cli, stages_cli
from cloud_fn.errors import NothingSeen, RegistryError, ServeError
from protos.documents import as_builtin, encode_json, write_json

if TYPE_CHECKING:
    from cloud_fn.registry import Catalog, Manifest
    from cloud_fn.registry.variants import Variant

_FLAGS = {
    "listen": "listen",
    "registry": "registry",
    "ray_address": "ray.address",
}


def mount(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands of this room."""
    _mount_serve(commands)
    _mount_registry(commands)
    _mount_functions(commands)
    controller_cli.mount(commands)


def _mount_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    serve = commands.add_parser("serve", help="gateway and functions, over gRPC")
    serve.add_argument("--config", type=Path, metavar="CLOUD.toml", help="configuration file")
    serve.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help="where to listen (ISTHMUS_SERVE_LISTEN, 127.0.0.1:8001)",
    )
    serve.add_argument(
        "--registry",
        metavar="DIR",
        help="the models to serve (ISTHMUS_SERVE_REGISTRY, ~/.local/share/isthmus/registry)",
    )
    serve.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="a Ray that runs (ISTHMUS_SERVE_RAY__ADDRESS, local: one of our own)",
    )
    serve.add_argument(
        "--ready-file", type=Path, metavar="PATH", help="written as JSON once requests are taken"
    )
    serve.set_defaults(run=_serve)


def _mount_registry(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    registry = commands.add_parser("registry", help="publish models, and see what is published")
    actions = registry.add_subparsers(required=True, metavar="ACTION")
    push = actions.add_parser(
        "push", help="publish an ONNX model as its next version, ready for this kind of machine"
    )
    push.add_argument("model", type=Path, metavar="MODEL.onnx")
    push.add_argument("--name", help="what it is called (its file's name)")
    push.add_argument("--steps", type=Path, metavar="STEPS.json", help="the steps around it")
    push.add_argument(
        "--dim",
        action="append",
        default=[],
        metavar="NAME=SIZE",
        help="size of a dynamic dimension; may be repeated",
    )
    push.set_defaults(run=_push)
    listing = actions.add_parser("list", help="the models and their versions")
    listing.set_defaults(run=_list)
    show = actions.add_parser(
        "show", help="one version: its files, its tensors, the machines that it is ready for"
    )
    show.add_argument("model", metavar="NAME[:VERSION]")
    show.set_defaults(run=_show)
    for action in (push, listing, show):
        action.add_argument(
            "--root",
            metavar="DIR",
            help="the registry (ISTHMUS_SERVE_REGISTRY, ~/.local/share/isthmus/registry)",
        )
        action.add_argument("--json", action="store_true", help="print one JSON document")


def _mount_functions(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    functions = commands.add_parser("functions", help="the functions of a gateway that runs")
    actions = functions.add_subparsers(required=True, metavar="ACTION")
    load = actions.add_parser(
        "load", help="how long a function's requests waited lately, and which cuts are warm"
    )
    load.add_argument("model", metavar="NAME[:VERSION]")
    load.add_argument(
        "--gateway",
        default="127.0.0.1:8001",
        metavar="HOST:PORT",
        help="the gateway (default 127.0.0.1:8001)",
    )
    load.add_argument("--key-file", type=Path, metavar="FILE", help="its first key opens the door")
    load.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="LOAD.json",
        help="write it here, for isthmus plan --cloud-load",
    )
    load.add_argument("--json", action="store_true", help="print one JSON document, the same")
    load.set_defaults(run=_load)
    functions_cli.mount(actions)
    stages_cli.mount(actions)
    jobs_cli.mount(actions)
    backtest_cli.mount(actions)


def _serve(args: argparse.Namespace) -> int:
    from cloud_fn.serve import serve

    flags = {name: getattr(args, flag) for flag, name in _FLAGS.items()}
    return serve(config.load(args.config, os.environ, flags), ready_file=args.ready_file)


def _push(args: argparse.Namespace) -> int:
    from cloud_fn.registry.push import push

    catalog = _catalog(args)
    manifest, new = push(
        catalog,
        args.model,
        name=args.name,
        steps=args.steps,
        dims=dict(map(_dimension, args.dim)),
        say=lambda line: print(line, file=sys.stderr),
    )
    if args.json:
        _print_json({"new": new, "manifest": as_builtin(manifest)} | _variants(catalog, manifest))
    else:
        what = "published" if new else "is there already, with the same content"
        print(f"{manifest.name}:{manifest.version} {what}")
    return 0


def _list(args: argparse.Namespace) -> int:
    catalog = _catalog(args)
    newest = [catalog.manifest(name) for name in catalog.names()]
    if args.json:
        models = [
            {"versions": catalog.versions(each.name), "newest": as_builtin(each)} for each in newest
        ]
        _print_json({"schema": "isthmus.registry/1", "models": models})
        return 0
    for each in newest:
        versions = len(catalog.versions(each.name))
        print(
            f"{each.name:<32} {versions:>3} version{'s' if versions > 1 else ' '}  "
            f"newest {each.version:>3} of {each.created}  {each.size_bytes / 1e6:>8.1f} MB"
        )
    if not newest:
        print(f"{catalog.root} has no models: `isthmus registry push MODEL.onnx`", file=sys.stderr)
    return 0


def _show(args: argparse.Namespace) -> int:
    name, _, version = args.model.partition(":")
    catalog = _catalog(args)
    manifest = catalog.manifest(name, version)
    if args.json:
        _print_json({**_fields(manifest), **_variants(catalog, manifest)})
    else:
        ready = map(_made_ready, catalog.variants(manifest))
        print("\n".join((*_described(manifest), *ready)))
    return 0


def _fields(document: "Manifest | Variant") -> dict[str, object]:
    return msgspec.convert(as_builtin(document), dict[str, object])


def _variants(catalog: "Catalog", manifest: "Manifest") -> dict[str, object]:
    return {
        "variants": [
            {
                "id": each.target.id,
                **_fields(each),
                "size_bytes": each.size_bytes,
                "prepacking_pays": each.prepacking_pays,
            }
            for each in catalog.variants(manifest)
        ]
    }


def _made_ready(variant: "Variant") -> str:
    target = variant.target
    if variant.mapped_s is None or variant.prepacked_s is None:
        copied = "prepacking not measured"
    else:
        what = "copied where used much" if variant.prepacking_pays else "stays mapped"
        copied = f"prepacked {variant.mapped_s / variant.prepacked_s:.2f}x as fast: {what}"
    return (
        f"ready    {target.id}  onnxruntime {target.onnxruntime}  {variant.size_bytes / 1e6:.1f} MB"
        f"  opens in {variant.open_s * 1e3:.1f} ms, {variant.read_s * 1e3:.0f} ms as it was"
        f"  {copied}  measured {variant.measured}"
    )


def _load(args: argparse.Namespace) -> int:
    from cloud_fn.auth import first_key
    from cloud_fn.client import get_load

    name, _, version = args.model.partition(":")
    key = first_key(args.key_file)
    found = get_load(config.Address.parse(args.gateway), name, version, key=key)
    if not found.requests:
        raise NothingSeen(
            f"{found.model}:{found.version} has answered no request in the last "
            f"{found.window_s / 60:g} minutes: ask it first"
        )
    if args.output is not None:
        try:
            write_json(args.output, found.load)
        except OSError as error:
            raise ServeError(f"{args.output} cannot be written: {error.strerror}") from error
    if args.json:
        _print_json(found.load)
    else:
        load, plural = found.load, "s" if found.requests > 1 else ""
        print(
            f"{found.model}:{found.version}  {found.requests} request{plural} in the last "
            f"{found.window_s / 60:g} minutes: each waited {load.queue_s * 1e3:.2f} ms for an "
            f"instance, and {load.cold_chance:.2%} also {load.cold_s * 1e3:.0f} ms for a start"
        )
        for cut in found.warm:
            print(f"warm     the tail after {', '.join(cut)}")
    return 0


def _described(manifest: "Manifest") -> list[str]:
    interface = manifest.interface
    lines = [
        f"{manifest.name}:{manifest.version}  published {manifest.created}",
        f"digest   {manifest.digest}",
    ]
    lines += [
        f"file     {file.name}  {file.size_bytes} bytes  sha256 {file.digest[:16]}..."
        for file in manifest.content.files
    ]
    parts = {"input": interface.inputs, "output": interface.outputs}
    if interface.source != interface.inputs:
        parts |= {"source": interface.source, "answer": interface.answers}
    for part, tensors in parts.items():
        lines += [f"{part:<8} {each.name}  {each.datatype} {list(each.shape)}" for each in tensors]
    return lines


def _catalog(args: argparse.Namespace) -> "Catalog":
    from cloud_fn.registry import Catalog

    return Catalog(config.load(None, os.environ, {"registry": args.root}).registry_path)


def _dimension(text: str) -> tuple[str, int]:
    name, _, size = text.rpartition("=")
    if not name or not size.isascii() or not size.isdecimal() or int(size) < 1:
        raise RegistryError(f"--dim {text!r} is not NAME=SIZE: write it like --dim height=224")
    return name, int(size)


def _print_json(value: object) -> None:
    sys.stdout.write(encode_json(value).decode())
