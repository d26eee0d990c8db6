"""The live socket: a camera's pictures come in, enlarged ones go back, and none is stale.

    browser ──> socket ──> newest ──> decode ──> network ──> encode ──> browser
                thread     one place  .............this thread............

A client has one frame being made and at most one waiting; a newer one takes the place of the one
that waits. Each client has an engine with a state of its own, on one processor thread, so clients
do not wait for each other while there are processors; engines of clients that left are kept for
the next ones. The number of clients is bounded, and everything that comes from a client is checked
before it is decoded: a picture's size is read from its head, so a small file cannot unpack to a
large one.

Messages are binary, numbers big-endian:

    to the server    uint32 sequence, float64 captured, JPEG or WebP
    to the browser   uint32 sequence, float64 captured, float32 milliseconds,
                     uint32 dropped, picture of the kind that came

`captured` is the browser's own clock and comes back as it went; `milliseconds` is what the frame
spent here, waiting included; `dropped` counts the frames that gave way here. The first message to
the browser is a JSON text: the model, its factor and the limits. Who breaks the rules is told why
by the code and reason of the close.
"""

from __future__ import annotations

import itertools
import json
import logging
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import cv2
import numpy as np
from flask import Flask, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed
from werkzeug.exceptions import HTTPException

from sharpreel.engines.choose import engine_choice
from sharpreel.engines.openvino import OpenVinoEngine
from sharpreel.models.weights import Model, load_model
from sharpreel.ops import Pixels
from sharpreel.pipeline.live import validate_live
from sharpreel.system.prefetch import LatestOnly
from sharpreel.system.resources import usable_cpus
from sharpreel.upscale import upscale_frames

log = logging.getLogger(__name__)

MODEL, SCALE = "reel-live", 2
PATH = "/live/socket"
CAME, LEAVES = struct.Struct(">Id"), struct.Struct(">IdfI")
MOST_PIXELS = 320 * 320  # of a frame that comes: 320x180, and no more on the side in other aspects
FEWEST_PIXELS = 16  # on a side
MOST_BYTES = 256 * 1024  # of a message: a 320x320 JPEG of pure noise takes less
MOST_A_SECOND, BURST = 75, 150  # messages; cameras give 30 or 60
MOST_SIZES = 12  # graphs compiled for one connection: each frame size takes one
KEPT_GRAPHS = 3  # of an engine; who goes back to one of these sizes waits for nothing
IDLE_SECONDS, SEND_SECONDS, PING_SECONDS, LINGER_SECONDS = 30, 10, 20, 2
JPEG_QUALITY, WEBP_QUALITY = 90, 85

REASON_BYTES = 123  # that fit into a close message

# RFC 6455, 7.4.1
NORMAL, GOING_AWAY, WRONG_TYPE, NOT_A_PICTURE, POLICY, TOO_BIG, FAILED, BUSY = (
    1000, 1001, 1003, 1007, 1008, 1009, 1011, 1013,
)  # fmt: skip


class Refused(Exception):
    """A client is sent away, with a code of RFC 6455 and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


# Pictures ------------------------------------------------------------------------------------


def picture_size(data: bytes) -> tuple[str, int, int]:
    """(".jpg" or ".webp", width, height) of a picture, from its head alone.

    Raises:
        Refused: It is neither a baseline JPEG nor a still WebP. (Progressive JPEG lets a few bytes
            ask for another pass over the whole picture, and no canvas writes it.)
    """
    if data[:2] == b"\xff\xd8":
        return ".jpg", *_jpeg_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp", *_webp_size(data)
    raise Refused(NOT_A_PICTURE, "a frame must be a JPEG or WebP picture")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in (0xC0, 0xC1):  # start of a frame that is coded in one pass
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        elif 0xC2 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            raise Refused(NOT_A_PICTURE, "a JPEG frame must be baseline, not progressive")
        else:
            at += 2 + length
    raise Refused(NOT_A_PICTURE, "the JPEG is damaged: its head states no size")


def _webp_size(data: bytes) -> tuple[int, int]:
    kind, body = data[12:16], data[20:]
    if len(body) >= 10 and kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return (
            int.from_bytes(body[6:8], "little") & 0x3FFF,
            int.from_bytes(body[8:10], "little") & 0x3FFF,
        )
    if len(body) >= 5 and kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if len(body) >= 10 and kind == b"VP8X" and not body[0] & 0x02:  # not an animation
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    raise Refused(NOT_A_PICTURE, "the WebP is damaged, or moves")


def decode(data: bytes) -> tuple[str, Pixels]:
    """The kind of a picture, and its RGB pixels (H, W, 3), uint8.

    Raises:
        Refused: It is none, or too large or too small.
    """
    kind, width, height = picture_size(data)
    if width * height > MOST_PIXELS:
        raise Refused(TOO_BIG, f"a frame of {width}x{height} is too large for a live one")
    if min(width, height) < FEWEST_PIXELS:
        raise Refused(NOT_A_PICTURE, f"a frame of {width}x{height} is too small")
    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        bgr = None
    if bgr is None or bgr.shape != (height, width, 3):
        raise Refused(NOT_A_PICTURE, "the picture does not decode")
    return kind, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def encode(kind: str, pixels: Pixels) -> bytes:
    """RGB pixels (H, W, 3), uint8, as a picture of this kind."""
    quality = {
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY],
    }[kind]
    done, data = cv2.imencode(kind, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
    assert done
    return data.tobytes()


# Clients -------------------------------------------------------------------------------------


class _InTurn(OpenVinoEngine):
    """An engine on one thread, of which no more run at a time than there are processors."""

    def __init__(self, model: Model, turns: threading.Semaphore) -> None:
        super().__init__(model, threads=1, precision=engine_choice(model, "cpu").precision)
        self._turns = turns
        self._kept: dict[Any, Any] = {}  # shape -> what `_compile` made for it
        self.compiled = 0

    def run(self, frame: Pixels) -> Pixels:
        with self._turns:
            return super().run(frame)

    def _compile(self, frame: Pixels) -> None:
        if self._shape is not None:
            self._kept[self._shape] = (self._request, self._ports, self._fold)
        shape = ((1, *frame.shape), frame.dtype)
        if kept := self._kept.pop(shape, None):
            self._shape, (self._request, self._ports, self._fold) = shape, kept
            return
        super()._compile(frame)
        self.compiled += 1
        while len(self._kept) >= KEPT_GRAPHS:
            del self._kept[next(iter(self._kept))]


class Seats:
    """The places for live clients, each with an engine; also what is counted of them.

    Attributes:
        frames, dropped, refused: Since the start, over all clients.
    """

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self.frames = self.dropped = self.refused = 0
        self._lock = threading.Lock()
        self._idle: list[_InTurn] = []
        self._taken: set[_Client] = set()
        self._turns = threading.Semaphore(usable_cpus())
        self._model: Model | None = None

    @property
    def clients(self) -> int:
        return len(self._taken)

    @contextmanager
    def engine_for(self, client: _Client) -> Iterator[_InTurn]:
        """An engine that has seen nothing, for as long as the client stays.

        Raises:
            Refused: All seats are taken.
        """
        with self._lock:
            if len(self._taken) >= self.seats:
                raise Refused(BUSY, "all live places are taken; try again in a moment")
            self._taken.add(client)
            self._model = self._model or load_model(MODEL, SCALE)
            engine = self._idle.pop() if self._idle else None
        try:
            engine = engine or _InTurn(self._model, self._turns)
            validate_live(engine)
            engine.reset()
            yield engine
        finally:
            with self._lock:
                self._taken.discard(client)
                self.dropped += client.dropped
                if engine is not None:
                    self._idle.append(engine)

    def close(self) -> None:
        """Tell every client that the server goes away."""
        for client in list(self._taken):
            client.say_goodbye(GOING_AWAY, "the server is stopping")


@dataclass(frozen=True)
class _Message:
    sequence: int
    captured: float
    picture: bytes
    came: float


class _Client:
    """One socket: what comes from it, checked, and what goes back."""

    def __init__(self, ws: Any) -> None:
        self._ws = ws
        ws.sock = _Patient(ws.sock)
        self._newest = LatestOnly(self._messages())

    @property
    def dropped(self) -> int:
        return self._newest.dropped

    def serve(self, engine: _InTurn, seats: Seats) -> None:
        """Answer frames until the client leaves.

        Raises:
            Refused: It broke a rule.
            ConnectionClosed: It left.
        """
        ready = {"type": "ready", "model": MODEL, "scale": SCALE, "most_pixels": MOST_PIXELS}
        self._ws.send(json.dumps(ready))
        now: list[tuple[_Message, str]] = []  # the frame in the network

        def pictures(messages: Iterator[_Message]) -> Iterator[Pixels]:
            for message in messages:
                kind, pixels = decode(message.picture)
                now[:] = [(message, kind)]
                yield pixels

        with closing(iter(self._newest)) as messages:
            # Frames of another size are another scene.
            sizes = itertools.groupby(pictures(messages), key=lambda pixels: pixels.shape)
            compiled = engine.compiled
            for _, frames in sizes:
                if engine.compiled - compiled >= MOST_SIZES:
                    raise Refused(POLICY, "too many frame sizes in one connection")
                engine.reset()
                for enlarged in upscale_frames(frames, engine=engine):
                    self._answer(*now[0], enlarged)
                    seats.frames += 1

    def say_goodbye(self, code: int, reason: str) -> None:
        with suppress(ConnectionClosed, OSError):
            self._ws.close(code, reason.encode()[:REASON_BYTES].decode(errors="ignore"))

    def hang_up(self) -> None:
        """End the connection; what still comes is read, for a reset would overtake the goodbye."""
        end = time.monotonic() + LINGER_SECONDS
        with suppress(OSError, ValueError):  # it was closed already
            self._ws.sock.shutdown(socket.SHUT_WR)
            while (left := end - time.monotonic()) > 0:
                if not select.select([self._ws.sock], [], [], left)[0]:
                    return
                if not self._ws.sock.recv(1 << 16):
                    return

    def _answer(self, message: _Message, kind: str, enlarged: Pixels) -> None:
        picture = encode(kind, enlarged)
        spent = 1000 * (time.monotonic() - message.came)
        head = LEAVES.pack(message.sequence, message.captured, spent, self.dropped)
        self._ws.send(head + picture)

    def _messages(self) -> Iterator[_Message]:
        """What the client sends, as it comes; in the thread of `LatestOnly`."""
        credit, last = float(BURST), time.monotonic()
        while self._ws.connected:
            data = self._ws.receive(timeout=1)
            now = time.monotonic()
            if data is None:
                if now - last > IDLE_SECONDS:
                    raise Refused(NORMAL, f"no frame came for {IDLE_SECONDS} seconds")
                continue
            credit = min(credit + (now - last) * MOST_A_SECOND, BURST) - 1
            last = now
            if credit < 0:
                raise Refused(POLICY, f"more than {MOST_A_SECOND} frames a second")
            if not isinstance(data, bytes):
                raise Refused(WRONG_TYPE, "frames are binary messages, not text")
            if len(data) <= CAME.size:
                raise Refused(NOT_A_PICTURE, "a message is a head of 12 bytes and a picture")
            sequence, captured = CAME.unpack_from(data)
            yield _Message(sequence, captured, data[CAME.size :], now)


class _Patient:
    """A socket that sends all or, when the other side does not read, gives up after a time.

    simple_websocket sends from two threads, by a `send` that may wait for ever.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._lock = sock, threading.Lock()
        self._waits = isinstance(sock, ssl.SSLSocket) or not hasattr(socket, "MSG_DONTWAIT")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def send(self, data: bytes) -> None:
        with self._lock:
            if self._waits:
                self._sock.sendall(data)
                return
            left, end = memoryview(data), time.monotonic() + SEND_SECONDS
            while left:
                with suppress(BlockingIOError):
                    left = left[self._sock.send(left, socket.MSG_DONTWAIT) :]
                    continue
                remaining = end - time.monotonic()
                if remaining <= 0 or not select.select([], [self._sock], [], remaining)[1]:
                    self._sock.shutdown(socket.SHUT_RDWR)
                    raise ConnectionClosed(POLICY, "the client does not read")


def register(app: Flask, seats: int) -> Seats:
    """Serve the live socket, to at most so many clients at a time."""
    from sharpreel.web.http import security

    places = Seats(seats)
    app.config["SOCK_SERVER_OPTIONS"] = {
        "max_message_size": MOST_BYTES,
        "ping_interval": PING_SECONDS,
    }
    sock = Sock(app)

    @app.before_request
    def uncompressed() -> None:
        # Pictures do not shrink, and what is not inflated is no bomb.
        if request.path == PATH:
            request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)

    def serve(ws: Any) -> None:
        client = _Client(ws)
        try:
            with security.check_socket(), places.engine_for(client) as engine:
                client.serve(engine, places)
        except HTTPException as e:
            places.refused += 1
            code = BUSY if e.code == HTTPStatus.TOO_MANY_REQUESTS else POLICY
            client.say_goodbye(code, e.description or "this page may not open a live socket")
        except Refused as e:
            places.refused += 1
            log.info("live client refused: %s %s", e.code, e.reason)
            client.say_goodbye(e.code, e.reason)
        except OSError as e:
            log.info("live client lost: %s", e.strerror or e)
        except ConnectionClosed:
            raise
        except Exception:
            log.exception("live client failed")
            client.say_goodbye(FAILED, "the server failed; it is in its log")
        finally:
            client.hang_up()

    sock.route(PATH)(serve)
    app.extensions["sharpreel-live"] = places
    return places
