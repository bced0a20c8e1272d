"""The server that people write in 40 lines: gRPC, a thread pool, and a session in the process.

``python -m testbed.bench.functions.peers.grpc_server MODEL.onnx --ready-file PATH [--tuned]``
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from cloud_fn import memory
from protos import wire
from protos.invocation import Reply, Tensor, arrays
from protos.wire import SERVICE
from testbed.bench.functions.peers.engine import Engine
from testbed.processes import write_ready

THREADS = 8


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--ready-file", type=Path, required=True)
    parser.add_argument("--tuned", action="store_true", help="keep large buffers, as we do")
    args = parser.parse_args()
    if args.tuned:
        memory.keep_buffers()
    engine = Engine(args.model)

    def infer(data: bytes, _: grpc.ServicerContext) -> bytes:
        request = wire.decode_request(data)
        (value,) = arrays(request.inputs).values()
        output = Tensor.of("y", engine.run(value))
        return wire.encode_reply(Reply(model=request.model, outputs=(output,)))

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(THREADS), options=options)
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(infer)
    }

    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    write_ready(args.ready_file, {"address": f"127.0.0.1:{port}"})
    server.wait_for_termination()


if __name__ == "__main__":
    main()
