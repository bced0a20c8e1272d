"""What a message more costs the agent: CPU time of its own uplink, request by request.

The agent's real uplink sends a tensor whole and in chunks to a server in another process, which
answers once a request is complete. What the chunks take beyond the whole, by message, is what
:data:`planner.profiles.MESSAGE_S` stands for in every profile: the same at every size, since the
bytes are the same.
"""

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import grpc
import numpy as np

from edge_agent.uplink import OPTIONS, Uplink
from edge_agent.worker import Worker
from protos.slices import Slice, cut
from protos.tensors import Array
from protos.wire import (
    SERVICE,
    Reply,
    Request,
    Tensor,
    encode_reply,
    encode_request,
    encode_stream_reply,
    route,
)
from testbed.processes import Processes, write_ready

CHUNKS = 8
ROUNDS, REQUESTS = 5, 40
SPACING_S = 0.003
"""Between chunks: what is encoded meanwhile. Sent at once, gRPC would put them into one packet, and
a message more would take half as long."""

SHAPE = (1, 64, 28, 28)
"""200 kB of float32."""

_READY_LIMIT_S = 30.0


def message_s(processes: Processes) -> float:
    """Seconds of CPU that one message more takes, the median of some rounds.

    Raises:
        TestbedError: the other process did not come up.
    """
    _, facts = processes.start_ready(
        "messages", [sys.executable, "-m", "testbed.bench.messages"], limit_s=_READY_LIMIT_S
    )
    return asyncio.run(_measured(str(facts["address"])))


async def _measured(address: str) -> float:
    uplink = Uplink(address, on_broken=lambda: None)
    keeping = asyncio.create_task(uplink.run(), name="uplink")
    worker = Worker("encoding")
    worker.start()
    try:
        await uplink.probe(_READY_LIMIT_S)
        sender = _Sender(uplink, worker)
        await sender.cpu_s(CHUNKS)  # what is done once is no request's
        found = []
        for _ in range(ROUNDS):
            whole_s, parted_s = await sender.cpu_s(1), await sender.cpu_s(CHUNKS)
            found.append((parted_s - whole_s) / (CHUNKS - 1))
        return max(median(found), 0.0)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await worker.stop(1.0)


class _Sender:
    """Encodes on the worker's thread and sends on the loop, as the agent does."""

    def __init__(self, uplink: Uplink, worker: Worker) -> None:
        self._uplink = uplink
        self._worker = worker
        self._array = np.random.default_rng(0).random(SHAPE, np.float32)
        self._count = 0

    async def cpu_s(self, chunks: int) -> float:
        """Seconds of this process's CPU for one request in so many *chunks*."""
        begun_s = time.process_time()
        for _ in range(REQUESTS):
            self._count += 1
            id_ = f"r{self._count}"
            loop = asyncio.get_running_loop()
            parts = await self._worker.call(partial(self._written, id_, chunks, loop))
            await self._uplink.ask(id_, parts)
        return (time.process_time() - begun_s) / REQUESTS

    def _written(self, id_: str, count: int, loop: asyncio.AbstractEventLoop) -> tuple[bytes, ...]:
        """Encode each chunk, and send all but the last."""
        parts: list[bytes] = []
        arrays: tuple[Array, ...] = (self._array,) if count == 1 else cut(self._array, count, 1)
        for number, array in enumerate(arrays, start=1):
            part = None if count == 1 else Slice(number=number, of=count, axis=1)
            request = Request(
                model="m",
                version="1",
                id=id_,
                inputs=(Tensor.of("x", array, slice=part),),
                cut="plan",
                deadline_ms=1e4,
                key=id_,
                chunk=None if count == 1 else (number, count),
            )
            parts.append(encode_request(request))
            if number < count:
                loop.call_soon_threadsafe(self._uplink.ahead, id_, number, parts[-1])
                time.sleep(SPACING_S)
        return tuple(parts)


def _answers(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
    for data in requests:
        found = route(data)
        if found.chunk is None or found.chunk[0] == found.chunk[1]:
            yield encode_stream_reply(encode_reply(Reply(model=found.model, id=found.id)))


def main() -> None:
    """Answer requests until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready-file", type=Path, required=True)
    args = parser.parse_args()
    server = grpc.server(ThreadPoolExecutor(4), options=OPTIONS)
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(_answers),
        "ServerLive": grpc.unary_unary_rpc_method_handler(lambda _data, _context: b""),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    write_ready(args.ready_file, {"address": f"127.0.0.1:{port}"})
    threading.Event().wait()


if __name__ == "__main__":
    main()
