"""``isthmus demo | doctor | testbed``: the whole way, this machine, and parts to try with."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from planner.links import NAMED, parse_link
from planner.traces import read_trace
from protos.documents import encode_json
from testbed.broker import Broker
from testbed.conditions import Conditions
from testbed.control import serve_control
from testbed.device import Device
from testbed.errors import TestbedError
from testbed.link import LinkEmulator
from testbed.processes import Processes, write_ready
from testbed.scenarios.storm import cli as storm


def mount(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``demo``, ``doctor``, and ``testbed`` with its commands."""
    _mount_demo(commands)
    _mount_doctor(commands)
    room = commands.add_parser("testbed", help="links, devices, brokers and models to try with")
    inner = room.add_subparsers(metavar="COMMAND", required=True)
    _mount_link(inner)
    _mount_device(inner)
    _mount_broker(inner)
    _mount_models(inner)
    _mount_bench(inner)
    _mount_run(inner)


def _mount_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("demo", help="everything on this machine, end to end")
    parser.add_argument(
        "--link", default="LTE", metavar="LINK",
        help=f"{', '.join(NAMED)}, 5.85Mbps,50ms[,JITTER] or TRACE[,RTT] (default LTE)",
    )  # fmt: skip
    parser.add_argument(
        "--device-speed", type=float, default=0.1, metavar="X",
        help="the device's share of one core of this machine (default 0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep logs, profile, plan and configuration here"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=_demo)


def _mount_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("doctor", help="what this machine has and lacks")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=_doctor)


def _mount_bench(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("bench", help="measure us beside a baseline, in one run")
    parser.add_argument(
        "name", choices=("planner", "coldstart", "density", "dataplane", "batching", "policies")
    )
    parser.add_argument(
        "--only", action="append", metavar="SECTION", help="one section of it; may be repeated"
    )
    parser.add_argument(
        "--model", action="append", metavar="NAME", help="one real model; may be repeated"
    )
    parser.add_argument("--quick", action="store_true", help="small: whether it works at all")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=_bench)


def _mount_run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("run", help="play a scenario with real parts")
    scenarios = parser.add_subparsers(metavar="SCENARIO", required=True)
    trace = scenarios.add_parser("trace", help="an agent follows its plan table along a drive")
    trace.add_argument(
        "--trace", type=Path, metavar="FILE",
        help="a Mahimahi trace of what goes up (default: a drive that is made up)",
    )  # fmt: skip
    trace.add_argument(
        "--seconds", type=float, default=40.0, metavar="N", help="how long to ask (default 40)"
    )
    trace.add_argument(
        "--device-speed", type=float, default=0.03, metavar="X",
        help="the device's share of one core of this machine (default 0.03)",
    )  # fmt: skip
    trace.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep logs, profile, plan and configuration here"
    )
    trace.add_argument("--json", action="store_true", help="print one JSON document")
    trace.set_defaults(run=_trace)
    storm.mount(scenarios)


def _mount_link(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("link", help="put a slow, far link in front of a port")
    parser.add_argument(
        "--listen", type=_address, default=("127.0.0.1", 0), metavar="HOST:PORT",
        help="where clients connect (default 127.0.0.1:0, any free port)",
    )  # fmt: skip
    parser.add_argument(
        "--to", type=_address, required=True, metavar="HOST:PORT", help="the server behind the link"
    )
    parser.add_argument(
        "--link", default="LTE", metavar="LINK",
        help=f"{', '.join(NAMED)}, 5.85Mbps,50ms[,JITTER] or TRACE[,RTT] (default LTE)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the jitter (default 0)")
    parser.add_argument(
        "--control", type=Path, metavar="PATH", help="a Unix socket that takes changes, as JSON"
    )
    _add_ready(parser)
    parser.add_argument("--json", action="store_true", help="print what was carried at the end")
    parser.set_defaults(run=_link)


def _mount_device(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("device", help="run a command on a fraction of a core")
    parser.add_argument(
        "--fraction", type=float, required=True, help="of one core's time, such as 0.1"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    parser.set_defaults(run=_device)


def _mount_broker(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("broker", help="run an MQTT broker on loopback")
    parser.add_argument(
        "--url", help="check a broker that is there instead (or set ISTHMUS_MQTT_URL)"
    )
    _add_ready(parser)
    parser.set_defaults(run=_broker)


def _mount_models(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("models", help="real models inside installed packages")
    parser.add_argument("name", nargs="?", help="print this model's path, making it if need be")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where made models are kept")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=_models)


def _add_ready(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ready-file", type=Path, metavar="PATH", help="written as JSON once it is ready"
    )


def _link(args: argparse.Namespace) -> int:
    conditions = Conditions.of(parse_link(args.link))
    emulator = LinkEmulator(args.to, conditions, listen=args.listen, seed=args.seed)
    asyncio.run(_serve_link(emulator, args))
    return 0


async def _serve_link(link: LinkEmulator, args: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(link)
        if args.control is not None:
            await stack.enter_async_context(serve_control(link, args.control))
        host, port = link.address
        facts = {"address": f"{host}:{port}", "link": args.link}
        if args.control is not None:
            facts["control"] = os.fspath(args.control)
        _ready("link", f"{host}:{port}, {args.link} to {args.to[0]}:{args.to[1]}", args, facts)
        await stop.wait()
        if args.json:
            _print_json(link.stats)


def _device(args: argparse.Namespace) -> int:
    words = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not words:
        raise TestbedError("there is nothing to run: put the command after --")
    with Device(args.fraction) as device:
        print(f"isthmus testbed device: {device.how}", file=sys.stderr)
        process = subprocess.Popen(device.command(words), env={**os.environ, **device.environ})
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both of us
        code = process.wait()
    return code if code >= 0 else 128 - code


def _broker(args: argparse.Namespace) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    url = args.url or os.environ.get("ISTHMUS_MQTT_URL") or None
    with (
        tempfile.TemporaryDirectory(prefix="isthmus-broker-") as folder,
        Processes(Path(folder)) as processes,
        Broker(processes, url=url) as broker,
    ):
        _ready("broker", f"{broker.url}, {broker.how}", args, {"address": broker.url})
        stop.wait()
    return 0


def _models(args: argparse.Namespace) -> int:
    from testbed.models import find, listing

    if args.name is not None:
        model = find(args.name, args.cache)
        if args.json:
            _print_json({"name": model.name, "path": str(model.path), "dims": dict(model.dims)})
        else:
            print(model.path)
        return 0
    listed = listing()
    if args.json:
        _print_json({"models": listed})
        return 0
    for one in listed:
        place = one.missing or f"{one.file}{' (made when asked for)' if one.made else ''}"
        print(f"{one.name:24} {one.application:11} {place}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from testbed.scenarios.demo import run_demo
    from testbed.scenarios.show import show

    parse_link(args.link)
    logging.getLogger("testbed").setLevel(logging.WARNING)
    result = run_demo(
        args.link,
        speed=args.device_speed,
        mqtt_url=os.environ.get("ISTHMUS_MQTT_URL") or None,
        keep=args.keep,
        say=_narrate,
    )
    if args.json:
        _print_json(result)
    else:
        show(result)
    return 0 if result.all_right else 1


def _trace(args: argparse.Namespace) -> int:
    from testbed.scenarios.show_trace import show
    from testbed.scenarios.trace import run_trace

    if not 0 < args.seconds <= 3600:
        raise TestbedError(f"--seconds is {args.seconds:g}: give up to 3600, and more than 0")
    if args.trace is not None:
        read_trace(args.trace)
    logging.getLogger("testbed").setLevel(logging.WARNING)
    result = run_trace(
        args.trace,
        seconds=args.seconds,
        speed=args.device_speed,
        mqtt_url=os.environ.get("ISTHMUS_MQTT_URL") or None,
        keep=args.keep,
        say=_narrate,
    )
    if args.json:
        _print_json(result)
    else:
        show(result)
    return 0 if result.all_right else 1


def _doctor(args: argparse.Namespace) -> int:
    from testbed import doctor

    findings = doctor.examine()
    if args.json:
        _print_json(doctor.as_json(findings))
    else:
        for found in findings:
            print(f"{found.mark:5}{found.check:13}{found.finding}")
            if found.fix:
                print(f"{'':18}-> {found.fix}")
    return 0 if doctor.healthy(findings) else 1


def _bench(args: argparse.Namespace) -> int:
    if args.name == "policies":
        return _bench_policies(args)
    return _bench_planner(args) if args.name == "planner" else _bench_functions(args)


def _bench_functions(args: argparse.Namespace) -> int:
    from testbed.bench.functions import menu

    logging.getLogger("testbed").setLevel(logging.WARNING)
    wanted = menu.Request(
        quick=args.quick, only=tuple(args.only or ()), models=tuple(args.model or ())
    )
    result = menu.run(args.name, wanted, _narrate)
    if args.json:
        _print_json(result)
    else:
        menu.show(result)
    return 0 if all(target.met for target in result.targets) else 1


def _bench_policies(args: argparse.Namespace) -> int:
    from testbed.bench.policies import SECTIONS, bench_policies, show

    sections = [name for name in SECTIONS if args.only is None or name in args.only]
    if lost := [name for name in args.only or () if name not in SECTIONS]:
        raise TestbedError(f"there is no section {lost[0]!r}: it is one of {', '.join(SECTIONS)}")
    result = bench_policies(sections=sections[:1] if args.quick else sections, say=_narrate)
    if args.json:
        _print_json(result)
    else:
        show(result)
    return 0 if all(target.met for target in result.targets) else 1


def _bench_planner(args: argparse.Namespace) -> int:
    from testbed.bench.planner import SECTIONS, bench_planner, show

    if lost := [name for name in args.only or () if name not in SECTIONS]:
        raise TestbedError(f"there is no section {lost[0]!r}: it is one of {', '.join(SECTIONS)}")
    sections = [name for name in SECTIONS if args.only is None or name in args.only]
    result = bench_planner(sections=sections, names=args.model or (), say=_narrate)
    if args.json:
        _print_json(result)
    else:
        show(result)
    return 0 if all(target.met for target in result.targets) else 1


def _narrate(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _ready(name: str, what: str, args: argparse.Namespace, facts: dict[str, str]) -> None:
    print(f"isthmus testbed {name}: ready on {what}", file=sys.stderr, flush=True)
    if args.ready_file is not None:
        write_ready(args.ready_file, facts)


def _print_json(value: object) -> None:
    sys.stdout.write(encode_json(value).decode())


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no address: write it as HOST:PORT")
    return host.strip("[]"), int(port)
