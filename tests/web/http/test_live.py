"""The live socket with real WebSocket clients: frames, state, limits, and hostile messages."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sharpreel import ops
from sharpreel.evaluation.metrics.fidelity import psnr_y
from sharpreel.upscale import upscale_frames

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("flask_sock", reason="the web extra is not installed")
clients = pytest.importorskip("websockets.sync.client", reason="websockets is not installed")

from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

from sharpreel.web import create_app  # noqa: E402
from sharpreel.web.context import EXTENSION, SiteContext  # noqa: E402
from sharpreel.web.http import live  # noqa: E402
from sharpreel.web.http import live_protocol as protocol  # noqa: E402
from sharpreel.web.settings import Limits, Settings  # noqa: E402

Pixels = npt.NDArray[np.uint8]
TIMEOUT = 60  # seconds; the machine may be busy


class Site:
    """A running site, and the counters of its live socket."""

    def __init__(self, folder: Path) -> None:
        limits = Limits(streams_per_client=64, requests_per_second=1000, burst=1000)
        self.app = create_app(Settings(data_dir=folder, limits=limits))
        self.server = make_server("127.0.0.1", 0, self.app, threaded=True)
        self.address = f"127.0.0.1:{self.server.server_port}"
        context: SiteContext = self.app.extensions[EXTENSION]
        self.slots = context.live_slots

    @contextmanager
    def client(self, **options: Any) -> Iterator[Client]:
        options.setdefault("origin", f"http://{self.address}")
        with clients.connect(
            f"ws://{self.address}{protocol.PATH}",
            max_size=None,
            open_timeout=TIMEOUT,
            ping_timeout=None,
            close_timeout=10,
            **options,
        ) as socket:
            yield Client(socket)


class Client:
    """A browser, as the server sees it."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.sequence = 0

    def receive_ready(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv(TIMEOUT))
        return message

    def send(self, image: bytes) -> int:
        self.socket.send(struct.pack(">Id", self.sequence, 1000.5 + self.sequence) + image)
        self.sequence += 1
        return self.sequence - 1

    def receive(self) -> tuple[int, float, float, int, bytes]:
        message = self.socket.recv(TIMEOUT)
        return *struct.unpack_from(">IdfI", message), message[20:]

    def upscale(self, image: bytes) -> Pixels:
        sent = self.send(image)
        sequence, *_, image = self.receive()
        assert sequence == sent
        return unpacked(image)

    def reason(self) -> tuple[int, str]:
        """Code and reason of the close message; earlier messages are skipped."""
        with pytest.raises(ConnectionClosed) as ended:
            deque((self.socket.recv(TIMEOUT) for _ in itertools.count()), maxlen=0)
        assert ended.value.rcvd is not None
        return ended.value.rcvd.code, ended.value.rcvd.reason


def moving_texture(count: int, width: int = 64, height: int = 48, seed: int = 0) -> list[Pixels]:
    """A smooth texture that moves by one pixel per frame."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4, width, 3), np.uint8)
    large = ops.resize(noise, 2 * height, 4 * width)
    return [np.ascontiguousarray(large[k : k + height, k : k + width]) for k in range(count)]


def packed(pixels: Pixels, kind: str = ".jpg", *options: int) -> bytes:
    done, data = cv2.imencode(kind, pixels[..., ::-1], list(options))
    assert done
    return bytes(data)


def unpacked(data: bytes) -> Pixels:
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1])


def expected(images: list[bytes]) -> list[Pixels]:
    return list(upscale_frames([unpacked(p) for p in images], protocol.MODEL, scale=protocol.SCALE))


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("site"))
    thread = threading.Thread(target=running.server.serve_forever)
    thread.start()
    yield running
    running.slots.close()
    wait_until(lambda: running.slots.clients == 0)
    running.server.shutdown()
    thread.join()
    running.server.server_close()


@pytest.fixture(autouse=True)
def empty(site: Site) -> Iterator[None]:
    """Each test starts and ends without clients."""
    yield
    wait_until(lambda: site.slots.clients == 0)


def test_a_frame_comes_back_upscaled_with_its_number_and_time(site: Site) -> None:
    [frame] = moving_texture(1)
    with site.client() as client:
        ready = client.receive_ready()
        assert (ready["model"], ready["scale"]) == ("reel-live", 2)
        sent = client.send(packed(frame))
        sequence, captured, milliseconds, dropped, image = client.receive()
        assert (sequence, captured, dropped) == (sent, 1000.5, 0)
        assert milliseconds > 0
        assert image[:2] == b"\xff\xd8"
        assert unpacked(image).shape == (96, 128, 3)


def test_each_client_has_its_own_state(site: Site) -> None:
    """Two videos sent alternately are upscaled as each alone would be."""
    videos = [[packed(f) for f in moving_texture(6, seed=seed)] for seed in (1, 2)]
    with site.client() as one, site.client() as two:
        one.receive_ready(), two.receive_ready()
        results = [
            [c.upscale(p) for c, p in zip((one, two), row, strict=True)]
            for row in zip(*videos, strict=True)
        ]
    for k, images in enumerate(videos):
        for row, reference in zip(results, expected(images), strict=True):
            assert psnr_y(row[k], reference) > 33  # JPEG is lossy
    # The state matters: without it the last frame differs.
    alone = expected(videos[0][-1:])[0]
    assert psnr_y(results[-1][0], expected(videos[0])[-1]) > psnr_y(results[-1][0], alone)


def test_a_webp_frame_is_returned_as_webp(site: Site) -> None:
    [frame] = moving_texture(1)
    with site.client() as client:
        client.receive_ready()
        client.send(packed(frame, ".webp", cv2.IMWRITE_WEBP_QUALITY, 90))
        *_, image = client.receive()
        assert image[8:12] == b"WEBP"
        assert unpacked(image).shape == (96, 128, 3)


def test_of_waiting_frames_the_newest_is_upscaled(site: Site) -> None:
    """Thirty at once: each is returned or counted as dropped, and the last one is returned."""
    images = [packed(f) for f in moving_texture(30)]
    with site.client() as client:
        client.receive_ready()
        client.upscale(images[0])
        for image in images[1:]:
            client.send(image)
        numbers: list[int] = []
        dropped = 0
        while not numbers or numbers[-1] < 29:
            sequence, *_, dropped, _ = client.receive()
            numbers.append(sequence)
        assert numbers == sorted(set(numbers))
        assert len(numbers) + dropped == 29


def test_the_frame_size_can_change(site: Site) -> None:
    with site.client() as client:
        client.receive_ready()
        for width, height in ((64, 48), (48, 64), (160, 90)):
            [frame] = moving_texture(1, width, height)
            assert client.upscale(packed(frame)).shape == (2 * height, 2 * width, 3)


def test_ten_clients_are_served_concurrently(site: Site) -> None:
    images = [packed(f) for f in moving_texture(5, 160, 90)]

    def look(number: int) -> int:
        with site.client() as client:
            client.receive_ready()
            together.wait(TIMEOUT)
            shapes = {client.upscale(p).shape for p in images}
            assert shapes == {(180, 320, 3)}
        return number

    together = threading.Barrier(10)
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(look, range(10))) == list(range(10))


def test_when_all_slots_are_in_use_the_next_client_is_asked_to_try_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.slots, "maximum", 1)
    [frame] = moving_texture(1)
    with site.client() as first:
        first.receive_ready()
        with site.client() as second:
            code, reason = second.reason()
            assert code == protocol.TRY_AGAIN_LATER
            assert "try again" in reason
        assert first.upscale(packed(frame)).shape == (96, 128, 3)
    wait_until(lambda: site.slots.clients == 0)
    with site.client() as third:
        assert third.receive_ready()["type"] == "ready"


def test_a_page_of_another_site_cannot_open_a_socket(site: Site) -> None:
    with pytest.raises(InvalidStatus, match="403"), site.client(origin="http://evil.example"):
        pass


def test_an_idle_client_is_disconnected(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "IDLE_SECONDS", 0)
    with site.client() as client:
        client.receive_ready()
        code, reason = client.reason()
    assert code == protocol.NORMAL
    assert "no frame" in reason


def test_a_client_that_does_not_read_is_disconnected(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SEND_SECONDS", 0.2)
    noise = np.random.default_rng(0).integers(0, 256, (180, 320, 3), np.uint8)
    image = packed(noise)
    refused = site.slots.refused
    small = socket.create_connection(("127.0.0.1", site.server.server_port))
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    # The client's library stops reading when its queue is full.
    with site.client(max_queue=1, sock=small) as client:
        client.receive_ready()
        end = time.monotonic() + TIMEOUT
        while site.slots.clients and time.monotonic() < end:
            with suppress(ConnectionClosed, OSError):
                client.send(image)
            time.sleep(1 / 30)  # a camera, not a flood
        assert site.slots.clients == 0
        assert site.slots.refused == refused
        small.close()


def test_clients_are_notified_when_the_server_stops(site: Site) -> None:
    with site.client() as client:
        client.receive_ready()
        site.slots.close()
        assert client.reason() == (protocol.GOING_AWAY, "the server is stopping")


def jpeg_with_header(width: int, height: int, start: int = 0xC0) -> bytes:
    """A small JPEG whose header claims another size, or another kind of frame."""
    data = bytearray(packed(moving_texture(1)[0]))
    at = data.index(b"\xff\xc0")
    data[at + 1] = start
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp(kind: bytes, body: bytes) -> bytes:
    return (
        b"RIFF"
        + struct.pack("<I", len(body) + 12)
        + b"WEBP"
        + kind
        + struct.pack("<I", len(body))
        + body
    )


HOSTILE: dict[str, tuple[bytes | str, int]] = {
    "text": ("hello", protocol.WRONG_TYPE),
    "empty": (b"", protocol.INVALID_IMAGE),
    "header only": (bytes(12), protocol.INVALID_IMAGE),
    "not an image": (bytes(12) + b"GIF89a" + bytes(100), protocol.INVALID_IMAGE),
    "script": (bytes(12) + b"<svg onload='x'>" * 20, protocol.INVALID_IMAGE),
    "jpeg without a size": (
        bytes(12) + b"\xff\xd8" + b"\xff\xe0\x00\x02" * 50,
        protocol.INVALID_IMAGE,
    ),
    "jpeg of fill bytes": (bytes(12) + b"\xff\xd8" + b"\xff" * 9000, protocol.INVALID_IMAGE),
    "jpeg bomb": (bytes(12) + jpeg_with_header(65000, 65000), protocol.TOO_BIG),
    "progressive jpeg": (bytes(12) + jpeg_with_header(64, 48, 0xC2), protocol.INVALID_IMAGE),
    "jpeg of no pixels": (bytes(12) + jpeg_with_header(0, 48), protocol.INVALID_IMAGE),
    "thin jpeg": (bytes(12) + jpeg_with_header(2000, 2), protocol.INVALID_IMAGE),
    "truncated jpeg": (bytes(12) + packed(moving_texture(1)[0])[:300], protocol.INVALID_IMAGE),
    "webp bomb": (
        bytes(12) + webp(b"VP8L", b"\x2f" + struct.pack("<I", 16383 | 16383 << 14) + bytes(99)),
        protocol.TOO_BIG,
    ),
    "animated webp": (bytes(12) + webp(b"VP8X", b"\x02" + bytes(99)), protocol.INVALID_IMAGE),
    "damaged webp": (bytes(12) + webp(b"VP8 ", bytes(99)), protocol.INVALID_IMAGE),
    "too many bytes": (
        bytes(12) + b"\xff\xd8" + bytes(protocol.MAX_MESSAGE_BYTES),
        protocol.TOO_BIG,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_closes_only_its_own_socket_with_a_reason(site: Site, name: str) -> None:
    message, code = HOSTILE[name]
    image = packed(moving_texture(1)[0])
    with site.client() as neighbour, site.client() as client:
        neighbour.receive_ready(), client.receive_ready()
        neighbour.upscale(image)
        client.socket.send(message)
        found, reason = client.reason()
        assert found == code, reason
        assert reason
        assert neighbour.upscale(image).shape == (96, 128, 3)


def test_a_flood_of_frames_is_ended(site: Site) -> None:
    image = packed(moving_texture(1)[0])
    with site.client() as neighbour, site.client() as client:
        neighbour.receive_ready(), client.receive_ready()
        deadline = time.monotonic() + 60  # slow on a busy machine
        flood = itertools.takewhile(lambda _: time.monotonic() < deadline, itertools.repeat(image))
        with pytest.raises(ConnectionClosed) as ended:
            deque(map(client.send, flood), maxlen=0)
        if ended.value.rcvd is not None:
            assert ended.value.rcvd.code == protocol.POLICY
        assert neighbour.upscale(image).shape == (96, 128, 3)


def test_the_number_of_frame_sizes_is_limited(site: Site) -> None:
    """Each one needs a compilation."""
    with site.client() as client:
        client.receive_ready()
        for k in range(live.MAX_SIZES):
            [frame] = moving_texture(1, 34 + 2 * k, 34)  # new to every engine
            client.upscale(packed(frame))
        client.send(packed(moving_texture(1, 96, 32)[0]))
        assert client.reason() == (protocol.POLICY, "too many frame sizes in one connection")


def test_a_client_can_switch_back_and_forth_between_its_sizes(site: Site) -> None:
    images = [packed(moving_texture(1, *size)[0]) for size in ((64, 48), (48, 64))]
    with site.client() as client:
        client.receive_ready()
        first = [client.upscale(image) for image in images]
        for _ in range(live.MAX_SIZES):
            for image, before in zip(images, first, strict=True):
                assert (client.upscale(image) == before).all()


def test_compression_is_not_negotiated(site: Site) -> None:
    with site.client(compression="deflate") as client:
        client.receive_ready()
        assert "Sec-WebSocket-Extensions" not in client.socket.response.headers
