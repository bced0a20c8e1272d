"""Proof that both ends of a TCP connection know one secret, which never crosses it.

The door greets with a nonce. Whoever came answers with a nonce of its own and the HMAC-SHA256 of
both under the secret; the door's own HMAC follows. Each end's HMAC names the end, so that none can
be sent back as the other's. What follows is not encrypted: the network between nodes is trusted
not to alter it, as it is by Ray.
"""

import hmac
import secrets
import socket
import time

GREETING = b"ISD1"
NONCE_BYTES = 32
PROOF_BYTES = 32

_CAME, _DOOR = b"isthmus door 1: who came", b"isthmus door 1: the door"


class Unproven(ConnectionError):
    """The peer does not know the secret, or does not speak this at all."""


def fresh_secret() -> str:
    """A secret that nobody can guess, as hexadecimal digits."""
    return secrets.token_hex(NONCE_BYTES)


def prove(sock: socket.socket, secret: bytes, *, until_s: float) -> bytes:
    """Answer the door's greeting.

    Returns:
        What the door has to prove itself by, for :func:`check`; entrust nothing to it before.

    Raises:
        Unproven: no door is there.
        OSError: the connection failed, or *until_s* on ``time.monotonic`` passed.
    """
    greeting = _receive(sock, len(GREETING) + NONCE_BYTES, until_s)
    if not greeting.startswith(GREETING):
        raise Unproven("what listens there is no door of a host")
    nonces = greeting[len(GREETING) :] + secrets.token_bytes(NONCE_BYTES)
    sock.sendall(nonces[NONCE_BYTES:] + hmac.digest(secret, _CAME + nonces, "sha256"))
    return hmac.digest(secret, _DOOR + nonces, "sha256")


def check(sock: socket.socket, expected: bytes, *, until_s: float) -> None:
    """Hear the door's proof.

    Raises:
        Unproven: it is not the one that :func:`prove` expects, or it has sent us away.
        OSError: the connection failed, or *until_s* on ``time.monotonic`` passed.
    """
    if not hmac.compare_digest(_receive(sock, PROOF_BYTES, until_s), expected):
        raise Unproven("the door does not know its secret")


def admit(sock: socket.socket, secret: bytes, *, until_s: float) -> None:
    """The door's side: greet whoever came, hear its proof, and give the door's own.

    Raises:
        Unproven: it does not know the secret.
        OSError: the connection failed, or *until_s* on ``time.monotonic`` passed.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    sock.sendall(GREETING + nonce)
    answer = _receive(sock, NONCE_BYTES + PROOF_BYTES, until_s)
    nonces = nonce + answer[:NONCE_BYTES]
    expected = hmac.digest(secret, _CAME + nonces, "sha256")
    if not hmac.compare_digest(answer[NONCE_BYTES:], expected):
        raise Unproven("it does not know the secret")
    sock.sendall(hmac.digest(secret, _DOOR + nonces, "sha256"))


def _receive(sock: socket.socket, count: int, until_s: float) -> bytes:
    got = b""
    while len(got) < count:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("it took too long to prove itself")
        sock.settimeout(left_s)
        try:
            more = sock.recv(count - len(got))
        except ConnectionResetError:  # what we had sent beside the proof was not read any more
            more = b""
        if not more:
            raise Unproven("it left before it had proven itself")
        got += more
    return got
