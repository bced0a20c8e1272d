"""The gRPC door: inference, with the tensors' bytes left unparsed, and the control plane."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc

from cloud_fn.auth import Keys
from cloud_fn.config import Address, Config
from cloud_fn.doors import admin, control
from cloud_fn.doors.statuses import status_of
from cloud_fn.doors.streams import Stream
from cloud_fn.errors import Busy, ServeError
from cloud_fn.service import Service
from protos.errors import IsthmusError
from protos.wire import CONTROL, SERVICE

log = logging.getLogger(__name__)

_SMALL_CALLS = 8


class GrpcDoor:
    """Serves one service on one address. ``bind``, ``open``, then ``close``."""

    def __init__(self, config: Config, keys: Keys) -> None:
        self._config = config
        self._keys = keys
        threads = config.max_in_flight + config.max_streams + _SMALL_CALLS
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="grpc"), options=_options(config)
        )
        self._executor = ThreadPoolExecutor(config.max_in_flight, thread_name_prefix="stream.run")
        self._streams: set[Stream] = set()
        self._lock = threading.Lock()

    def bind(self) -> Address:
        """Take the address.

        Raises:
            ServeError: somebody listens there, or there is no such address.
        """
        wanted = self._config.address
        try:
            port = self._server.add_insecure_port(str(wanted))
        except RuntimeError as error:
            raise _not_free(wanted) from error
        return Address(wanted.host, port)

    def open(self, service: Service) -> None:
        """Answer calls with *service*."""
        handlers = self._handlers(service, admin.CALLS)
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(
            lambda data, context: self._infer(service, data, context)
        )
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self._stream(service, requests, context)
        )
        managing = self._handlers(service, control.CALLS)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, handlers),
                grpc.method_handlers_generic_handler(CONTROL, managing),
            )
        )
        self._server.start()

    def close(self, grace_s: float) -> None:
        """Take no new calls, let those that run end, and cut them off after *grace_s*."""
        with self._lock:
            streams = tuple(self._streams)
        for stream in streams:
            stream.end()
        self._server.stop(grace_s).wait()
        self._executor.shutdown(wait=False)

    def _handlers(
        self, service: Service, calls: Mapping[str, Callable[[Service, bytes], bytes]]
    ) -> "dict[str, grpc.RpcMethodHandler[bytes, bytes]]":
        """Handlers of small calls; without (de)serialisers they get and give bytes."""
        return {
            name: grpc.unary_unary_rpc_method_handler(
                lambda data, context, call=call: self._small(service, call, data, context)
            )
            for name, call in calls.items()
        }

    def _small(
        self,
        service: Service,
        call: Callable[[Service, bytes], bytes],
        data: bytes,
        context: grpc.ServicerContext,
    ) -> bytes:
        with self._answering(context):
            return call(service, data)

    def _infer(self, service: Service, data: bytes, context: grpc.ServicerContext) -> bytes:
        with self._answering(context):
            return service.infer(data, timeout_s=context.time_remaining())

    def _stream(
        self, service: Service, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        with self._answering(context):
            stream = Stream(
                service,
                self._executor,
                max_running=self._config.max_in_stream,
                max_message_bytes=self._config.max_message_bytes,
                sentence_of=_sentence_of,
            )
            with self._registered(stream):
                yield from stream.run(requests)

    @contextlib.contextmanager
    def _registered(self, stream: Stream) -> Iterator[None]:
        with self._lock:
            if len(self._streams) >= self._config.max_streams:
                raise Busy(
                    f"the server has {len(self._streams)} streams open (max_streams): "
                    "use unary calls, or try again later"
                )
            self._streams.add(stream)
        try:
            yield
        finally:
            with self._lock:
                self._streams.discard(stream)

    @contextlib.contextmanager
    def _answering(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Let the caller in, and end its call with a status when something is raised."""
        try:
            if self._keys.are_needed:
                self._keys.check(_authorization(context))
            yield
        except Exception as error:  # noqa: BLE001  each becomes the call's status
            _abort(context, error)


def check_free(address: Address) -> None:
    """Find out early whether :meth:`GrpcDoor.bind` will succeed.

    Raises:
        ServeError: somebody listens there, or there is no such address.
    """
    try:
        family, kind, _, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        raise _not_free(address) from error


def _not_free(address: Address) -> ServeError:
    return ServeError(
        f"cannot listen on {address}: the port is taken or the address is not this machine's; "
        "choose another with --listen"
    )


def _abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    if not isinstance(error, IsthmusError):
        log.error("call failed: error=%s", type(error).__name__, exc_info=error)
    status, sentence = status_of(error)
    context.abort(status, sentence)
    raise AssertionError("abort raises")


def _sentence_of(error: Exception) -> str:
    if not isinstance(error, IsthmusError):
        log.error("request failed: error=%s", type(error).__name__, exc_info=error)
    return status_of(error)[1]


def _authorization(context: grpc.ServicerContext) -> str | None:
    for name, value in context.invocation_metadata():
        if name == "authorization" and isinstance(value, str):
            return value
    return None


def _options(config: Config) -> list[tuple[str, int]]:
    """Settings of the server.

    HTTP/2's windows are left as they are. gRPC starts them at 4 MiB: 3 MB over 100 MB/s and 50 ms
    took 88 ms, 81 being the least possible, and no less with larger windows (grpcio 1.85, 2026-11).
    """
    transport_bytes = 2 * config.max_message_bytes  # between the two, the error is our sentence
    return [
        ("grpc.so_reuseport", 0),  # else a second server takes half of the calls unnoticed
        ("grpc.max_receive_message_length", transport_bytes),
        ("grpc.max_send_message_length", -1),
        # Devices keep one stream open for long and ask whether it still lives.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]
