"""A plain process: ``python -m testbed.bench.functions.peers.plain MODEL.onnx SOCKET``.

It opens the model, connects to whoever started it, and answers.
"""

import sys
from multiprocessing.connection import Client

ANSWER, OPEN, REOPEN = b"?", b"+", b"="
"""How a message begins: what follows is the input's contents, or the path of another model, which
is opened beside those that are open, or in their place."""


def main() -> None:
    """Answer until the other side hangs up. Only contents travel, no objects."""
    from testbed.bench.functions.peers.engine import Engine

    path, address = sys.argv[1:]
    engines = [Engine(path)]
    with Client(address) as peer:
        while True:
            try:
                message = peer.recv_bytes()
            except EOFError:
                return
            what, rest = message[:1], message[1:]
            if what == ANSWER:
                peer.send_bytes(engines[-1].answer(rest))
                continue
            if what == REOPEN:
                engines.clear()
            engines.append(Engine(rest.decode()))


if __name__ == "__main__":
    main()
