"""The live socket: frames of a camera arrive, upscaled frames go back, and none is stale.

    browser ──> socket ──> newest ──> decode ──> network ──> encode ──> browser
                thread     one slot   .............this thread............

One WebSocket per client. At most one frame is being processed and one is waiting; a newer frame
replaces the waiting one. Each client has its own engine and state on one CPU thread, so clients do
not wait for each other while there are free CPUs. The number of clients is limited, and everything
from a client is checked before it is decoded. See `live_protocol.py` for the messages.
"""

from __future__ import annotations

import itertools
import json
import logging
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from flask import Flask, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed
from werkzeug.exceptions import HTTPException

from sharpreel.ops import Pixels
from sharpreel.system.prefetch import LatestOnly
from sharpreel.upscale import upscale_frames
from sharpreel.web.context import current_site
from sharpreel.web.http import security
from sharpreel.web.http.live_engines import LiveEngine, LiveSlots
from sharpreel.web.http.live_images import decode, encode
from sharpreel.web.http.live_protocol import (
    INTERNAL_ERROR,
    INVALID_IMAGE,
    MAX_MESSAGE_BYTES,
    MAX_PIXELS,
    MAX_REASON_BYTES,
    MODEL,
    NORMAL,
    PATH,
    POLICY,
    REQUEST_HEADER,
    RESPONSE_HEADER,
    SCALE,
    TRY_AGAIN_LATER,
    WRONG_TYPE,
    LiveError,
)

log = logging.getLogger(__name__)

MAX_PER_SECOND, BURST = 75, 150  # messages; cameras send 30 or 60 frames per second
MAX_SIZES = 12  # compilations for one connection: each new frame size needs one
IDLE_SECONDS, SEND_SECONDS, PING_SECONDS, CLOSE_SECONDS = 30, 10, 20, 2


def register(app: Flask) -> None:
    """Serve the live socket."""
    app.config["SOCK_SERVER_OPTIONS"] = {
        "max_message_size": MAX_MESSAGE_BYTES,
        "ping_interval": PING_SECONDS,
    }
    sock = Sock(app)

    @app.before_request
    def disable_compression() -> None:
        # Images do not shrink, and without decompression there is no decompression bomb.
        if request.path == PATH:
            request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)

    sock.route(PATH)(_serve)


def _serve(ws: Any) -> None:
    """Serve one client until it leaves or is disconnected."""
    client, slots = _Client(ws), current_site().live_slots
    try:
        with security.live_socket_slot(), slots.engine_for(client) as engine:
            client.serve(engine, slots)
    except HTTPException as e:
        slots.refused += 1
        code = TRY_AGAIN_LATER if e.code == HTTPStatus.TOO_MANY_REQUESTS else POLICY
        client.send_close(code, e.description or "this page may not open a live socket")
    except LiveError as e:
        slots.refused += 1
        log.info("live client refused: %s %s", e.code, e.reason)
        client.send_close(e.code, e.reason)
    except OSError as e:
        log.info("live client lost: %s", e.strerror or e)
    except ConnectionClosed:
        raise
    except Exception:
        log.exception("live client failed")
        client.send_close(INTERNAL_ERROR, "internal error; see the server log")
    finally:
        client.disconnect()


@dataclass(frozen=True)
class _Message:
    """A frame from the client; `received` is on this machine's monotonic clock."""

    sequence: int
    captured: float
    image: bytes
    received: float


class _Client:
    """One socket: validates incoming frames and sends upscaled ones."""

    def __init__(self, ws: Any) -> None:
        self._ws = ws
        ws.sock = _TimeoutSocket(ws.sock)
        self._newest = LatestOnly(self._messages())

    @property
    def dropped(self) -> int:
        return self._newest.dropped

    def serve(self, engine: LiveEngine, slots: LiveSlots) -> None:
        """Upscale frames until the client leaves.

        Raises:
            LiveError: It broke a rule.
            ConnectionClosed: It left.
        """
        ready = {"type": "ready", "model": MODEL, "scale": SCALE, "most_pixels": MAX_PIXELS}
        self._ws.send(json.dumps(ready))
        current: list[tuple[_Message, str]] = []  # the frame in the network

        def decoded(messages: Iterator[_Message]) -> Iterator[Pixels]:
            for message in messages:
                kind, pixels = decode(message.image)
                current[:] = [(message, kind)]
                yield pixels

        with closing(iter(self._newest)) as messages:
            # A new frame size starts a new scene.
            sizes = itertools.groupby(decoded(messages), key=lambda pixels: pixels.shape)
            compiled = engine.compiled
            for _, frames in sizes:
                if engine.compiled - compiled >= MAX_SIZES:
                    raise LiveError(POLICY, "too many frame sizes in one connection")
                engine.reset()
                for upscaled in upscale_frames(frames, engine=engine):
                    self._send_frame(*current[0], upscaled)
                    slots.frames += 1

    def send_close(self, code: int, reason: str) -> None:
        """Send a close message."""
        with suppress(ConnectionClosed, OSError):
            self._ws.close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))

    def disconnect(self) -> None:
        """End the connection; reads pending input, or a reset would overtake the close message."""
        deadline = time.monotonic() + CLOSE_SECONDS
        with suppress(OSError, ValueError):  # it was closed already
            self._ws.sock.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                if not select.select([self._ws.sock], [], [], left)[0]:
                    return
                if not self._ws.sock.recv(1 << 16):
                    return

    def _send_frame(self, message: _Message, kind: str, upscaled: Pixels) -> None:
        image = encode(kind, upscaled)
        milliseconds = 1000 * (time.monotonic() - message.received)
        header = RESPONSE_HEADER.pack(
            message.sequence, message.captured, milliseconds, self.dropped
        )
        self._ws.send(header + image)

    def _messages(self) -> Iterator[_Message]:
        """Messages of the client as they arrive; runs in the thread of `LatestOnly`."""
        credit, last = float(BURST), time.monotonic()
        while self._ws.connected:
            data = self._ws.receive(timeout=1)
            now = time.monotonic()
            if data is None:
                if now - last > IDLE_SECONDS:
                    raise LiveError(NORMAL, f"no frame for {IDLE_SECONDS} seconds")
                continue
            credit = min(credit + (now - last) * MAX_PER_SECOND, BURST) - 1
            last = now
            if credit < 0:
                raise LiveError(POLICY, f"more than {MAX_PER_SECOND} frames per second")
            if not isinstance(data, bytes):
                raise LiveError(WRONG_TYPE, "frames are binary messages, not text")
            if len(data) <= REQUEST_HEADER.size:
                raise LiveError(INVALID_IMAGE, "a message is a 12-byte header followed by an image")
            sequence, captured = REQUEST_HEADER.unpack_from(data)
            yield _Message(sequence, captured, data[REQUEST_HEADER.size :], now)


class _TimeoutSocket:
    """A socket whose `send` sends everything, or gives up when the other side does not read.

    simple_websocket sends from two threads, through a `send` that may block forever.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._lock = sock, threading.Lock()
        self._blocking = isinstance(sock, ssl.SSLSocket) or not hasattr(socket, "MSG_DONTWAIT")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def send(self, data: bytes) -> None:
        with self._lock:
            if self._blocking:
                self._sock.sendall(data)
                return
            left, deadline = memoryview(data), time.monotonic() + SEND_SECONDS
            while left:
                with suppress(BlockingIOError):
                    left = left[self._sock.send(left, socket.MSG_DONTWAIT) :]
                    continue
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not select.select([], [self._sock], [], remaining)[1]:
                    self._sock.shutdown(socket.SHUT_RDWR)
                    raise ConnectionClosed(POLICY, "the client does not read")
