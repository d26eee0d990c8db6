"""The live socket, by real WebSocket clients: pictures, states, limits, and hostile frames."""

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
from sharpreel.web.http import live  # noqa: E402
from sharpreel.web.settings import Limits, Settings  # noqa: E402

Pixels = npt.NDArray[np.uint8]
PATIENCE = 60  # seconds; the machine may be busy


class Site:
    """A running site, and what its live socket counts."""

    def __init__(self, folder: Path) -> None:
        limits = Limits(streams_per_client=64, requests_per_second=1000, burst=1000)
        self.app = create_app(Settings(data_dir=folder, limits=limits))
        self.server = make_server("127.0.0.1", 0, self.app, threaded=True)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.seats: live.Seats = self.app.extensions["sharpreel-live"]

    @contextmanager
    def client(self, **options: Any) -> Iterator[Client]:
        options.setdefault("origin", f"http://{self.address}")
        with clients.connect(
            f"ws://{self.address}{live.PATH}", max_size=None, open_timeout=PATIENCE,
            ping_timeout=None, close_timeout=10, **options,
        ) as socket:  # fmt: skip
            yield Client(socket)


class Client:
    """A browser, as the server sees it."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.sequence = 0

    def hello(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv(PATIENCE))
        return message

    def send(self, picture: bytes) -> int:
        self.socket.send(struct.pack(">Id", self.sequence, 1000.5 + self.sequence) + picture)
        self.sequence += 1
        return self.sequence - 1

    def answer(self) -> tuple[int, float, float, int, bytes]:
        message = self.socket.recv(PATIENCE)
        return *struct.unpack_from(">IdfI", message), message[20:]

    def enlarge(self, picture: bytes) -> Pixels:
        sent = self.send(picture)
        sequence, *_, made = self.answer()
        assert sequence == sent
        return unpacked(made)

    def reason(self) -> tuple[int, str]:
        """Why the server closed; pictures that come before are passed over."""
        with pytest.raises(ConnectionClosed) as ended:
            deque((self.socket.recv(PATIENCE) for _ in itertools.count()), maxlen=0)
        assert ended.value.rcvd is not None
        return ended.value.rcvd.code, ended.value.rcvd.reason


def film(count: int, width: int = 64, height: int = 48, seed: int = 0) -> list[Pixels]:
    """A smooth texture that moves a pixel a frame."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4, width, 3), np.uint8)
    large = ops.resize(noise, 2 * height, 4 * width)
    return [np.ascontiguousarray(large[k : k + height, k : k + width]) for k in range(count)]


def packed(pixels: Pixels, kind: str = ".jpg", *options: int) -> bytes:
    done, data = cv2.imencode(kind, pixels[..., ::-1], list(options))
    assert done
    return bytes(data)


def unpacked(data: bytes) -> Pixels:
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1])


def expected(pictures: list[bytes]) -> list[Pixels]:
    return list(upscale_frames([unpacked(p) for p in pictures], live.MODEL, scale=live.SCALE))


def wait_until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.seats.close()
    wait_until(lambda: made.seats.clients == 0)
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture(autouse=True)
def empty(site: Site) -> Iterator[None]:
    """Each test begins and ends without clients."""
    yield
    wait_until(lambda: site.seats.clients == 0)


# Pictures ------------------------------------------------------------------------------------


def test_a_frame_comes_back_enlarged_with_its_number_and_time(site: Site) -> None:
    [frame] = film(1)
    with site.client() as client:
        hello = client.hello()
        assert (hello["model"], hello["scale"]) == ("reel-live", 2)
        sent = client.send(packed(frame))
        sequence, captured, milliseconds, dropped, made = client.answer()
        assert (sequence, captured, dropped) == (sent, 1000.5, 0)
        assert milliseconds > 0
        assert made[:2] == b"\xff\xd8"
        assert unpacked(made).shape == (96, 128, 3)


def test_each_client_has_a_state_of_its_own(site: Site) -> None:
    """Two films sent turn by turn are enlarged as each alone would be."""
    films = [[packed(f) for f in film(6, seed=seed)] for seed in (1, 2)]
    with site.client() as one, site.client() as two:
        one.hello(), two.hello()
        made = [
            [c.enlarge(p) for c, p in zip((one, two), row, strict=True)]
            for row in zip(*films, strict=True)
        ]
    for k, pictures in enumerate(films):
        for row, truth in zip(made, expected(pictures), strict=True):
            assert psnr_y(row[k], truth) > 33  # what JPEG takes away
    # The state counts: without it the last frame is another picture.
    alone = expected(films[0][-1:])[0]
    assert psnr_y(made[-1][0], expected(films[0])[-1]) > psnr_y(made[-1][0], alone)


def test_webp_is_answered_by_webp(site: Site) -> None:
    [frame] = film(1)
    with site.client() as client:
        client.hello()
        client.send(packed(frame, ".webp", cv2.IMWRITE_WEBP_QUALITY, 90))
        *_, made = client.answer()
        assert made[8:12] == b"WEBP"
        assert unpacked(made).shape == (96, 128, 3)


def test_of_frames_that_wait_the_newest_is_made(site: Site) -> None:
    """Thirty at once: what is answered and what gave way are all of them, the last is answered."""
    pictures = [packed(f) for f in film(30)]
    with site.client() as client:
        client.hello()
        client.enlarge(pictures[0])
        for picture in pictures[1:]:
            client.send(picture)
        numbers: list[int] = []
        dropped = 0
        while not numbers or numbers[-1] < 29:
            sequence, *_, dropped, _ = client.answer()
            numbers.append(sequence)
        assert numbers == sorted(set(numbers))
        assert len(numbers) + dropped == 29


def test_the_size_may_change_on_the_way(site: Site) -> None:
    with site.client() as client:
        client.hello()
        for width, height in ((64, 48), (48, 64), (160, 90)):
            [frame] = film(1, width, height)
            assert client.enlarge(packed(frame)).shape == (2 * height, 2 * width, 3)


def test_ten_clients_are_served_at_once(site: Site) -> None:
    pictures = [packed(f) for f in film(5, 160, 90)]

    def look(number: int) -> int:
        with site.client() as client:
            client.hello()
            together.wait(PATIENCE)
            shapes = {client.enlarge(p).shape for p in pictures}
            assert shapes == {(180, 320, 3)}
        return number

    together = threading.Barrier(10)
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(look, range(10))) == list(range(10))


# Limits --------------------------------------------------------------------------------------


def test_when_all_places_are_taken_the_next_is_told_to_come_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.seats, "seats", 1)
    [frame] = film(1)
    with site.client() as first:
        first.hello()
        with site.client() as second:
            code, reason = second.reason()
            assert code == live.BUSY
            assert "try again" in reason
        assert first.enlarge(packed(frame)).shape == (96, 128, 3)
    wait_until(lambda: site.seats.clients == 0)
    with site.client() as third:
        assert third.hello()["type"] == "ready"


def test_a_page_of_another_site_opens_no_socket(site: Site) -> None:
    with pytest.raises(InvalidStatus, match="403"), site.client(origin="http://evil.example"):
        pass


def test_who_sends_nothing_gives_the_place_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "IDLE_SECONDS", 0)
    with site.client() as client:
        client.hello()
        code, reason = client.reason()
    assert code == live.NORMAL
    assert "no frame" in reason


def test_who_does_not_read_is_sent_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SEND_SECONDS", 0.2)
    noise = np.random.default_rng(0).integers(0, 256, (180, 320, 3), np.uint8)
    picture = packed(noise)
    refused = site.seats.refused
    small = socket.create_connection(("127.0.0.1", site.server.server_port))
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    # The client's library stops to read when nobody takes what it read.
    with site.client(max_queue=1, sock=small) as client:
        client.hello()
        end = time.monotonic() + PATIENCE
        while site.seats.clients and time.monotonic() < end:
            with suppress(ConnectionClosed, OSError):
                client.send(picture)
            time.sleep(1 / 30)  # a camera, not a flood
        assert site.seats.clients == 0
        assert site.seats.refused == refused
        small.close()


def test_the_server_says_when_it_stops(site: Site) -> None:
    with site.client() as client:
        client.hello()
        site.seats.close()
        assert client.reason() == (live.GOING_AWAY, "the server is stopping")


# Hostile frames ------------------------------------------------------------------------------


def jpeg_that_says(width: int, height: int, start: int = 0xC0) -> bytes:
    """A small JPEG whose head promises another size, or another kind of frame."""
    data = bytearray(packed(film(1)[0]))
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
    "text": ("hello", live.WRONG_TYPE),
    "empty": (b"", live.NOT_A_PICTURE),
    "a head alone": (bytes(12), live.NOT_A_PICTURE),
    "no picture": (bytes(12) + b"GIF89a" + bytes(100), live.NOT_A_PICTURE),
    "script": (bytes(12) + b"<svg onload='x'>" * 20, live.NOT_A_PICTURE),
    "jpeg without a size": (bytes(12) + b"\xff\xd8" + b"\xff\xe0\x00\x02" * 50, live.NOT_A_PICTURE),
    "jpeg of fill bytes": (bytes(12) + b"\xff\xd8" + b"\xff" * 9000, live.NOT_A_PICTURE),
    "jpeg bomb": (bytes(12) + jpeg_that_says(65000, 65000), live.TOO_BIG),
    "progressive jpeg": (bytes(12) + jpeg_that_says(64, 48, 0xC2), live.NOT_A_PICTURE),
    "jpeg of no pixels": (bytes(12) + jpeg_that_says(0, 48), live.NOT_A_PICTURE),
    "thin jpeg": (bytes(12) + jpeg_that_says(2000, 2), live.NOT_A_PICTURE),
    "jpeg cut off": (bytes(12) + packed(film(1)[0])[:300], live.NOT_A_PICTURE),
    "webp bomb": (
        bytes(12) + webp(b"VP8L", b"\x2f" + struct.pack("<I", 16383 | 16383 << 14) + bytes(99)),
        live.TOO_BIG,
    ),
    "moving webp": (bytes(12) + webp(b"VP8X", b"\x02" + bytes(99)), live.NOT_A_PICTURE),
    "damaged webp": (bytes(12) + webp(b"VP8 ", bytes(99)), live.NOT_A_PICTURE),
    "too many bytes": (bytes(12) + b"\xff\xd8" + bytes(live.MOST_BYTES), live.TOO_BIG),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_frame_closes_its_own_socket_with_a_reason(site: Site, name: str) -> None:
    message, code = HOSTILE[name]
    picture = packed(film(1)[0])
    with site.client() as neighbour, site.client() as client:
        neighbour.hello(), client.hello()
        neighbour.enlarge(picture)
        client.socket.send(message)
        found, reason = client.reason()
        assert found == code, reason
        assert reason
        assert neighbour.enlarge(picture).shape == (96, 128, 3)


def test_a_flood_is_ended(site: Site) -> None:
    picture = packed(film(1)[0])
    with site.client() as neighbour, site.client() as client:
        neighbour.hello(), client.hello()
        deadline = time.monotonic() + 60  # on a busy machine a flood is slow to rise
        flood = itertools.takewhile(
            lambda _: time.monotonic() < deadline, itertools.repeat(picture)
        )
        with pytest.raises(ConnectionClosed) as ended:
            deque(map(client.send, flood), maxlen=0)
        if ended.value.rcvd is not None:
            assert ended.value.rcvd.code == live.POLICY
        assert neighbour.enlarge(picture).shape == (96, 128, 3)


def test_ever_new_sizes_are_ended(site: Site) -> None:
    """Each costs a compilation."""
    with site.client() as client:
        client.hello()
        for k in range(live.MOST_SIZES):
            [frame] = film(1, 34 + 2 * k, 34)  # which no client before had
            client.enlarge(packed(frame))
        client.send(packed(film(1, 96, 32)[0]))
        assert client.reason() == (live.POLICY, "too many frame sizes in one connection")


def test_a_client_may_go_back_and_forth_between_its_sizes(site: Site) -> None:
    pictures = [packed(film(1, *size)[0]) for size in ((64, 48), (48, 64))]
    with site.client() as client:
        client.hello()
        first = [client.enlarge(picture) for picture in pictures]
        for _ in range(live.MOST_SIZES):
            for picture, before in zip(pictures, first, strict=True):
                assert (client.enlarge(picture) == before).all()


def test_compression_is_not_negotiated(site: Site) -> None:
    with site.client(compression="deflate") as client:
        client.hello()
        assert "Sec-WebSocket-Extensions" not in client.socket.response.headers
