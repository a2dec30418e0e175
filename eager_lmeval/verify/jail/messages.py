"""Messages over a socket: four bytes of length and JSON. What they hold is `values`' affair."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

__all__ = ["MAX_FRAME_BYTES", "UnsupportedValue", "receive", "send"]

MAX_FRAME_BYTES = 64 << 20


class UnsupportedValue(TypeError):
    """A value, or bytes, that cannot pass."""


def send(connection: socket.socket, message: object) -> None:
    body = json.dumps(message).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise UnsupportedValue(f"a message of {len(body)} bytes, at most {MAX_FRAME_BYTES} pass")
    connection.sendall(struct.pack("!I", len(body)) + body)


def receive(connection: socket.socket) -> Any:
    """The next message. EOFError where the other side is gone, UnsupportedValue where it sent no message."""
    (length,) = struct.unpack("!I", _exactly(connection, 4))
    if length > MAX_FRAME_BYTES:
        raise UnsupportedValue(f"a message of {length} bytes, at most {MAX_FRAME_BYTES} pass")
    try:
        return json.loads(_exactly(connection, length))
    except (ValueError, RecursionError) as error:
        raise UnsupportedValue(f"no message: {error}") from error


def _exactly(connection: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        try:
            piece = connection.recv(min(1 << 20, length - len(received)))
        except OSError as error:
            raise EOFError from error
        if not piece:
            raise EOFError
        received += piece
    return bytes(received)
