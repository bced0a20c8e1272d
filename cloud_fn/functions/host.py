"""The Ray actor that holds an instance. Ray places, starts and watches it; it carries no tensor."""

import os
from pathlib import Path

import msgspec

from cloud_fn import memory
from cloud_fn.functions.spec import Function


class Host:
    """One instance in a process of its own, reached through a Unix socket."""

    def __init__(self, function: bytes, socket_path: str) -> None:
        """Listen.

        Args:
            function: a :class:`Function` as JSON.
            socket_path: where to.
        """
        # The gateway, which only names this class, must not load ONNX Runtime.
        from cloud_fn.functions.instance import Instance
        from cloud_fn.functions.listener import Listener

        memory.keep_buffers()
        instance = Instance(msgspec.json.decode(function, type=Function))
        Listener(Path(socket_path), instance.execute).start()

    def process_id(self) -> int:
        """Answers once the instance listens."""
        return os.getpid()
