"""Measure a site: number of live clients, their frame rate and latency, and upload throughput.

    python benchmarks/web.py [--seconds 8] [--clients 1,2,4,8] [--uploads 1,4] [--json FILE]

The site is `sharpreel serve` in its own processes on this machine, over loopback. A live client is
a camera with 30 frames per second that follows the rule of the page: at most two frames in flight,
and the newest one next. Latency is the time from capturing a frame (before it is encoded as JPEG)
to the decoded response. Clients share the CPUs with the server. The load of the machine is printed,
and so is the server's CPU time per frame, which does not depend on the load.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import psutil
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))
Pixels = npt.NDArray[np.uint8]
CAMERA_FPS, IN_FLIGHT = 30, 2
SIZES = ((160, 90), (320, 180))
NO_RATE_LIMITS = {
    "requests_per_second": 10000,
    "burst": 10000,
    "streams_per_client": 64,
    "live_clients": 64,
}
CHUNK = 8 << 20


@dataclass(frozen=True)
class LiveResult:
    """Several clients at a time; `fps` and latencies are those of the worst client."""

    size: str
    clients: int
    fps: float
    median_ms: float
    p95_ms: float
    left_out: int  # dropped frames
    server_cpu_ms: float  # of all processes of the site, per frame


@dataclass(frozen=True)
class UploadResult:
    """Several uploads at a time."""

    uploads: int
    megabytes: float
    megabytes_a_second: float  # of all together


@contextmanager
def running_site(folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A site on a free port, and its process."""
    command = [
        sys.executable,
        "-m",
        "sharpreel",
        "serve",
        "--port",
        "0",
        "--data-dir",
        str(folder),
    ]
    for name, value in NO_RATE_LIMITS.items():
        command += ["--limit", f"{name}={value}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "listens at" in line)
            port = int(line.strip().rsplit(":", 1)[-1])
            wait_until_ready(port)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()


def wait_until_ready(port: int) -> None:
    for _ in range(600):
        try:
            with connection_to(port) as connection:
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("the site does not respond")


@contextmanager
def connection_to(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        yield connection
    finally:
        connection.close()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process and its children."""
    family = [process, *process.children(recursive=True)]
    return float(sum(sum(one.cpu_times()[:2]) for one in family))


def camera_frames(width: int, height: int) -> list[Pixels]:
    """Two seconds of a photograph under a moving camera, BGR."""
    import make_clip

    return [
        np.ascontiguousarray(f[..., ::-1]) for f in make_clip.scene("coffee", width, height, 60)
    ]


def camera(
    port: int, frames: list[Pixels], seconds: float, start: threading.Barrier
) -> tuple[list[float], int]:
    """(latencies in seconds, number of dropped frames) of one client."""
    latencies: list[float] = []
    dropped, number = 0, 1
    in_flight: set[int] = set()
    address = f"ws://127.0.0.1:{port}/live/socket"
    own = Origin(f"http://127.0.0.1:{port}")
    with connect(address, origin=own, compression=None, max_size=None) as ws:
        ws.recv()  # the model and the limits
        exchange(ws, frames[0])  # the first frame of a size compiles the network
        start.wait()
        begin = due = time.monotonic()
        while (now := time.monotonic()) < begin + seconds:
            if now >= due:
                due = max(due + 1 / CAMERA_FPS, now)
                if len(in_flight) < IN_FLIGHT:
                    encoded = cv2.imencode(".jpg", frames[number % len(frames)])[1].tobytes()
                    ws.send(struct.pack(">Id", number, now) + encoded)
                    in_flight.add(number)
                    number += 1
                else:
                    dropped += 1
            try:
                response = ws.recv(timeout=max(due - time.monotonic(), 0))
            except TimeoutError:
                continue
            assert isinstance(response, bytes)
            cv2.imdecode(np.frombuffer(response[20:], np.uint8), cv2.IMREAD_COLOR)
            answered, captured = struct.unpack_from(">Id", response)
            latencies.append(time.monotonic() - captured)
            skipped = {n for n in in_flight if n < answered}  # dropped by the server
            dropped += len(skipped)
            in_flight -= skipped | {answered}
    return latencies, dropped


def exchange(ws: ClientConnection, frame: Pixels) -> None:
    ws.send(bytes(12) + cv2.imencode(".jpg", frame)[1].tobytes())
    ws.recv()


def measure_live(
    port: int, process: psutil.Process, size: tuple[int, int], clients: int, seconds: float
) -> LiveResult:
    frames, start = camera_frames(*size), threading.Barrier(clients + 1)
    with ThreadPoolExecutor(clients) as pool:
        runs = [pool.submit(camera, port, frames, seconds, start) for _ in range(clients)]
        start.wait(120)
        before = cpu_seconds(process)
        results = [run.result() for run in runs]
        spent = cpu_seconds(process) - before
    count = sum(len(latencies) for latencies, _ in results)
    worst = [np.quantile(latencies or [np.inf], (0.5, 0.95)) * 1000 for latencies, _ in results]
    return LiveResult(
        size=f"{size[0]}x{size[1]}",
        clients=clients,
        fps=min(len(latencies) for latencies, _ in results) / seconds,
        median_ms=float(max(m for m, _ in worst)),
        p95_ms=float(max(p for _, p in worst)),
        left_out=sum(left for _, left in results),
        server_cpu_ms=1000 * spent / max(count, 1),
    )


def measure_uploads(port: int, uploads: int, megabytes: int) -> UploadResult:
    data = os.urandom(1 << 20) * megabytes

    def request(method: str, path: str, body: bytes, **headers: str) -> dict[str, object]:
        with connection_to(port) as connection:
            connection.request(method, f"/api/v1{path}", body, headers)
            response = connection.getresponse()
            text = response.read()
            if response.status >= 300:
                raise SystemExit(f"{method} {path}: {response.status} {text.decode()}")
            return dict(json.loads(text)) if text else {}

    def send(number: int) -> None:
        kind = {"Content-Type": "application/json"}
        body = json.dumps({"name": f"{number}.mp4", "size": len(data)}).encode()
        begun = request("POST", "/uploads", body, **kind)
        for offset in range(0, len(data), CHUNK):
            chunk = data[offset : offset + CHUNK]
            request("PATCH", f"/uploads/{begun['id']}", chunk, **{"Upload-Offset": str(offset)})
        request("DELETE", f"/uploads/{begun['id']}", b"")

    began = time.monotonic()
    with ThreadPoolExecutor(uploads) as pool:
        list(pool.map(send, range(uploads)))
    seconds = time.monotonic() - began
    moved = uploads * len(data) / 1e6
    return UploadResult(uploads, len(data) / 1e6, moved / seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    numbers = lambda text: [int(n) for n in text.split(",")]  # noqa: E731
    parser.add_argument("--seconds", type=float, default=8, help="duration of each measurement")
    parser.add_argument("--clients", type=numbers, default=[1, 2, 4, 8])
    parser.add_argument("--uploads", type=numbers, default=[1, 4])
    parser.add_argument("--megabytes", type=int, default=128, help="size of each upload")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument(
        "--quick", action="store_true", help="one short measurement of each kind, as a test"
    )
    a = parser.parse_args()
    if a.quick:
        a.seconds, a.clients, a.uploads, a.megabytes = 1.0, [1], [2], 9
    load = os.getloadavg()[0]
    cpus = len(os.sched_getaffinity(0))
    print(f"{cpus} CPUs, {platform.machine()}; load {load:.1f} before the start")
    with tempfile.TemporaryDirectory() as folder, running_site(Path(folder)) as (port, process):
        print(
            "| frames | clients | frames/s each | median | p95 | dropped | server CPU per frame |"
        )
        print("|---|---|---|---|---|---|---|")
        live = []
        for size in SIZES:
            for clients in a.clients:
                row = measure_live(port, process, size, clients, a.seconds)
                live.append(row)
                print(
                    f"| {row.size} | {row.clients} | {row.fps:.1f} | {row.median_ms:.0f} ms | "
                    f"{row.p95_ms:.0f} ms | {row.left_out} | {row.server_cpu_ms:.1f} ms |",
                    flush=True,
                )
        uploads = [measure_uploads(port, count, a.megabytes) for count in a.uploads]
        print("\n| concurrent uploads | each | together |\n|---|---|---|")
        for one in uploads:
            print(f"| {one.uploads} | {one.megabytes:.0f} MB | {one.megabytes_a_second:.0f} MB/s |")
    if a.json:
        rows = {"live": [asdict(r) for r in live], "uploads": [asdict(r) for r in uploads]}
        about = {"processors": cpus, "load_before": load, "python": platform.python_version()}
        a.json.write_text(json.dumps({**about, **rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
