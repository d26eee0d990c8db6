"""A film made by several Ray nodes on this machine is the film that one process makes."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from sharpreel.cli.main import app
from sharpreel.cluster import ray_cluster, runner
from sharpreel.cluster.ray_cluster import CONNECTING, SLOW_START, Cluster, Slots
from sharpreel.cluster.runner import RaySegmentRunner, SegmentTask, runner_on, upscale_videos
from sharpreel.cluster.worker import JobSpec
from sharpreel.errors import InputError, MissingExtra, SharpreelError, UsageError
from sharpreel.models import weights
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import make_plan
from sharpreel.pipeline.stages import Progress, Result
from sharpreel.upscale import run, upscale_video
from tests.support.terminal import DEADLINE, events, sharpreel, started, wait_for
from tests.support.videos import make_clip

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")
publish_error_to_driver = pytest.importorskip("ray._private.utils").publish_error_to_driver

SMALL = "reel-fast"  # as any causal network, and in the least time
FRAMES, SEGMENT = 60, 0.24  # eight segments and more, shorter than the network's warm-up
NODES = 2


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def ray_processes() -> list[psutil.Process]:
    """Processes of Ray that were started by this one or are left of it."""
    mine = os.environ["RAY_AUTH_TOKEN"]
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("RAY_AUTH_TOKEN") == mine:
                found.append(process)
        except psutil.Error:
            continue
    return found


def until(condition: Callable[[], Any]) -> Any:
    """What a condition says once it is true."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it never came")


@pytest.fixture(scope="module")
def ray_token() -> Iterator[None]:
    """A token of our own: Ray would write one into the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", os.urandom(32).hex())
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # Ray would let all else on this machine go first
        yield
        left = ray_processes()
        _, alive = psutil.wait_procs(left, timeout=30)
        for process in alive:
            process.kill()
        assert not alive


@pytest.fixture(scope="module")
def nodes(ray_token: None) -> Iterator[Any]:
    """A Ray cluster: a head that makes nothing, and two nodes of one processor each."""
    quiet = {"include_dashboard": False, "object_store_memory": 100 << 20}
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **quiet})
    for _ in range(NODES):
        made.add_node(num_cpus=1, object_store_memory=100 << 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
    made.shutdown()


@pytest.fixture(scope="module")
def there(nodes: Any) -> Iterator[Cluster]:
    with Cluster("auto") as made:
        yield made


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def with_word(word: str) -> list[psutil.Process]:
    """The processes of Ray whose command has it."""
    found = []
    for process in ray_processes():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.fixture(scope="module")
def head(ray_token: None) -> Iterator[tuple[str, str]]:
    """A head as docs/cluster.md starts it; its address and that of its client server."""
    port, client = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:  # sockets: short paths
        subprocess.run(
            [
                Path(sys.executable).with_name("ray"), "start", "--head", f"--port={port}",
                f"--ray-client-server-port={client}", "--include-dashboard=false", "--num-cpus=1",
                f"--object-store-memory={100 << 20}", f"--temp-dir={folder}",
            ],
            check=True, capture_output=True, timeout=DEADLINE,
            env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"},  # of `nodes`
        )  # fmt: skip
        yield f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}"
        for end in (psutil.Process.terminate, psutil.Process.kill):  # as `ray stop` does
            left = with_word(folder) + with_word("ray.util.client.server")
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(process)
            psutil.wait_procs(left, timeout=10)
        until(lambda: not with_word(folder))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key frames every 12 frames, B-frames and sound."""
    folder = tmp_path_factory.mktemp("sources")
    return make_clip(folder / "film.mp4", frames=FRAMES, options={"g": "12", "bf": "2"})


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """What this process alone makes of the source."""
    folder = tmp_path_factory.mktemp("alone")

    @lru_cache
    def made(model: str, suffix: str = ".mp4") -> Path:
        output = folder / f"{model}{suffix}"
        upscale_video(source, output, model=model, segment_seconds=SEGMENT)
        return output

    return made


def make(
    there: Cluster, source: Path, output: Path, tell: Any = None, **options: Any
) -> tuple[Result, list[Progress]]:
    seen: list[Progress] = []

    def told(progress: Progress) -> None:
        seen.append(progress)
        if tell is not None:
            tell(progress)

    options = {"model": SMALL, "segment_seconds": SEGMENT, **options}
    plan = make_plan(source, output, UpscaleOptions(**options))
    return run(plan, told, runner_on(there)), seen


def test_a_causal_network_makes_the_same_bytes(
    there: Cluster, source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    result, seen = make(there, source, output)
    assert sha256(output) == sha256(alone(SMALL))
    assert (result.frames, result.resumed_frames, result.lost) == (FRAMES, 0, 0)
    assert result.engine.startswith("openvino")
    assert sum(p.event == "segment" for p in seen) > NODES
    assert seen[-1].event == "verify"
    assert list(tmp_path.iterdir()) == [output]


@pytest.fixture
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that see neither the input nor the work folder."""
    honest = RaySegmentRunner._describe

    def elsewhere(film: RaySegmentRunner) -> JobSpec:
        told = honest(film)
        nowhere = Path("/nowhere")
        plan = replace(
            told.plan,
            source=nowhere / "in.mp4",
            input=told.plan.input.moved(nowhere / "in.mp4"),
            target=told.plan.target.moved(nowhere / "out.mp4"),
        )
        return replace(told, plan=plan)

    monkeypatch.setattr(RaySegmentRunner, "_describe", elsewhere)


@pytest.mark.usefixtures("nothing_shared")
def test_machines_that_share_no_disk_get_the_frames_and_send_the_segments(
    there: Cluster, source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    make(there, source, output)
    assert sha256(output) == sha256(alone(SMALL))


@pytest.mark.usefixtures("nothing_shared")
def test_pictures_come_back_from_machines_that_share_no_disk(
    there: Cluster, source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    make(there, source, tmp_path / "frames", model="bicubic")
    made, wanted = tmp_path / "frames", alone("bicubic", "")
    assert len(list(made.iterdir())) == FRAMES
    for picture in wanted.iterdir():
        assert (made / picture.name).read_bytes() == picture.read_bytes()


def test_progress_tells_what_each_node_makes(there: Cluster, source: Path, tmp_path: Path) -> None:
    _, seen = make(there, source, tmp_path / "out.mp4", model="bicubic")
    last = [p for p in seen if p.event == "segment"][-1]
    assert last.frames == FRAMES
    assert 1 <= len(last.nodes) <= NODES
    assert all(fps > 0 for fps in last.nodes.values())


def working(node: Any) -> bool:
    """Does a node make a segment now?"""
    (raylet,) = node.all_processes["raylet"]
    children = psutil.Process(raylet.process.pid).children(recursive=True)
    for child in children:
        try:
            if "compute_segment" in " ".join(child.cmdline()):
                return True
        except psutil.Error:
            continue
    return False


def test_a_node_that_is_killed_costs_only_its_segment(
    nodes: Any, there: Cluster, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / "in.mp4", size=(256, 160), frames=72, options={"g": "12"})
    wanted, output = tmp_path / "wanted.mp4", tmp_path / "out.mp4"
    upscale_video(path, wanted, model=SMALL, segment_seconds=SEGMENT)
    victim = nodes.add_node(num_cpus=1, object_store_memory=100 << 20)
    killed = False

    def kill(progress: Progress) -> None:
        nonlocal killed
        if progress.event == "segment" and not killed:
            killed = True
            until(lambda: working(victim))
            nodes.remove_node(victim, allow_graceful=False)

    result, seen = make(there, path, output, kill)
    assert killed
    lost = [p.note for p in seen if "its worker was lost, computed again" in p.note]
    assert 1 <= len(lost) <= 3
    assert (result.frames, result.resumed_frames) == (72, 0)
    assert sha256(output) == sha256(wanted)


@pytest.fixture
def own_network(tmp_path: Path) -> Path:
    """A model file that looks at two frames before and one after; without a graph."""
    torch = pytest.importorskip("torch")
    from sharpreel.models.tsrcnn import TSRCNN

    torch.manual_seed(1)
    arguments: Any = {"size": "small", "scale": 2, "past": 2, "future": 1}
    path = tmp_path / "mine_x2.safetensors"
    card = {"model": "tsrcnn", "arguments": arguments}
    weights.save_weights(path, TSRCNN(**arguments).state_dict(), card)
    return path


def test_a_network_with_windows_and_weights_of_its_own_makes_the_same_bytes(
    there: Cluster, source: Path, own_network: Path, tmp_path: Path
) -> None:
    here, out, end = tmp_path / "here.mp4", tmp_path / "out.mp4", 0.8
    model = str(own_network)
    wanted = upscale_video(source, here, model=model, segment_seconds=SEGMENT, end=end)
    result, _ = make(there, source, out, model=model, end=end)
    assert result.engine == wanted.engine == "torch-cpu"
    assert sha256(out) == sha256(here)


def test_a_task_that_raises_fails_the_film_with_the_words_of_a_local_run(
    there: Cluster, source: Path, own_network: Path, tmp_path: Path
) -> None:
    options: Any = {"model": str(own_network), "engine": "openvino"}
    with pytest.raises(UsageError) as here:
        upscale_video(source, tmp_path / "here.mp4", **options)
    with pytest.raises(UsageError) as far:
        make(there, source, tmp_path / "out.mp4", **options)
    assert str(far.value) == str(here.value)
    assert "has no saved graph" in str(far.value)


def test_a_machine_that_decodes_otherwise_fails_the_film(
    there: Cluster, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = RaySegmentRunner._tasks

    def other(film: RaySegmentRunner, *arguments: Any) -> Iterator[SegmentTask]:
        for job in honest(film, *arguments):
            yield replace(job, record=replace(job.record, tail="0" * 32))

    monkeypatch.setattr(RaySegmentRunner, "_tasks", other)
    with pytest.raises(SharpreelError, match="decodes to other frames there"):
        make(there, source, tmp_path / "out.mp4", model="bicubic")
    assert there.slots.taken == 0


def test_an_input_that_is_damaged_fails_with_the_words_of_a_local_run(
    there: Cluster, source: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    broken.write_bytes(data)
    options: dict[str, Any] = {"strict": True, "model": "bicubic", "segment_seconds": SEGMENT}
    with pytest.raises(InputError) as here:
        upscale_video(broken, tmp_path / "here.mp4", **options)
    with pytest.raises(InputError) as far:
        make(there, broken, tmp_path / "out.mp4", **options)
    assert str(far.value) == str(here.value)
    # Without --strict both leave out the same frames.
    options["strict"] = False
    wanted = upscale_video(broken, tmp_path / "wanted.mp4", **options)
    made, _ = make(there, broken, tmp_path / "made.mp4", **options)
    assert (made.lost, made.frames) == (wanted.lost, wanted.frames)
    assert made.lost > 0
    assert sha256(made.output) == sha256(wanted.output)


@pytest.mark.parametrize("where", ["cluster", "here"])
def test_a_killed_driver_goes_on_from_its_journal(
    where: str, there: Cluster, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / "in.mp4", size=(192, 128), frames=96, options={"g": "12"})
    wanted, output = tmp_path / "wanted.mp4", tmp_path / "out.mp4"
    upscale_video(path, wanted, model=SMALL, segment_seconds=SEGMENT)
    command = ["upscale", path, "-o", output, "-m", SMALL, "--segment-seconds", SEGMENT, "--json"]
    with started(*command, "--cluster", "auto") as process:
        wait_for(process, "segment", times=3)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not output.exists()
    if where == "cluster":
        result, _ = make(there, path, output)
    else:
        result = upscale_video(path, output, model=SMALL, segment_seconds=SEGMENT)
    assert 18 <= result.resumed_frames < 96
    assert result.frames == 96
    assert sha256(output) == sha256(wanted)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "wanted.mp4"]


def test_a_folder_of_films_is_one_plan_and_a_bad_one_fails_alone(
    nodes: Any, source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    films = tmp_path / "films"
    films.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        shutil.copy(source, films / name)
    (films / "bad.mp4").write_text("no film")
    large = tmp_path / "large"
    done = sharpreel(
        "upscale", films, "-o", large, "-m", "bicubic", "--segment-seconds", SEGMENT, "--json",
        "--cluster", "auto", "--cpus-per-task", 1,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    said = events(done.stdout)
    (shown,) = (one for one in said if one["event"] == "cluster")
    assert shown["nodes"] >= NODES
    assert said[-1] == {"event": "finished", "inputs": 4, "failed": 1}
    assert "bad.mp4: not a readable video" in done.stderr
    made = sorted(one["output"] for one in said if one["event"] == "done")
    assert len(made) == 3
    for path in made:
        assert sha256(Path(path)) == sha256(alone("bicubic"))
    # All of them were under way before the first was done.
    order = [one["event"] for one in said]
    assert order.index("done") > max(k for k, event in enumerate(order) if event == "start")


def test_what_ray_says_of_its_nodes_stays_out_of_the_events(
    nodes: Any, there: Cluster, source: Path, tmp_path: Path
) -> None:
    said = "a node is lost"
    command = ["upscale", source, "-o", tmp_path / "out.mp4", "-m", "bicubic", "--json"]
    with started(*command, "--segment-seconds", SEGMENT, "--cluster", "auto") as process:
        wait_for(process, "segment")
        publish_error_to_driver("node_died", said, ray._private.worker.global_worker.gcs_client)
        assert process.stdout is not None
        assert process.stderr is not None
        assert events(process.stdout.read())[-1]["event"] == "done"
        assert said in process.stderr.read()


def test_films_from_python_share_a_cluster(
    there: Cluster, source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    two = [shutil.copy(source, tmp_path / name) for name in ("a.mp4", "b.mp4")]
    seen = set()
    made = upscale_videos(
        two,
        options=UpscaleOptions(model="bicubic", segment_seconds=SEGMENT),
        on_progress=lambda source, progress: seen.add((Path(source).name, progress.event)),
    )
    assert [sha256(one.output) for one in made] == 2 * [sha256(alone("bicubic"))]
    assert {("a.mp4", "segment"), ("b.mp4", "verify")} <= seen


def test_a_straggler_is_made_by_a_second_worker_too(
    there: Cluster,
    source: Path,
    alone: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "STRAGGLER", 0)
    monkeypatch.setattr(runner, "PATIENCE_SECONDS", 0)
    output = tmp_path / "out.mp4"
    _, seen = make(there, source, output)
    assert any("computed by a second worker too" in p.note for p in seen)
    assert sum(p.event == "segment" for p in seen) == len({p.segment for p in seen})
    assert sha256(output) == sha256(alone(SMALL))


def test_what_a_callback_raises_stops_the_run_and_it_goes_on(
    there: Cluster, source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.event == "segment":
            raise Stop

    output = tmp_path / "out.mp4"
    with pytest.raises(Stop):
        make(there, source, output, stop)
    assert there.slots.taken == 0
    result, _ = make(there, source, output)
    assert result.resumed_frames >= 6
    assert sha256(output) == sha256(alone(SMALL))


# On a head with a token, by its address and by ray://.


def test_ray_client_makes_the_same_bytes(
    head: tuple[str, str], source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    command = ["upscale", source, "-o", output, "-m", SMALL, "--segment-seconds", SEGMENT]
    done = sharpreel(*command, "--json", "--cluster", head[1])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert sha256(output) == sha256(alone(SMALL))
    assert sum(one["event"] == "segment" for one in events(done.stdout)) > NODES


def test_what_a_task_raises_comes_through_ray_client_with_its_words(
    head: tuple[str, str], source: Path, own_network: Path, tmp_path: Path
) -> None:
    command = ["upscale", source, "-o", tmp_path / "out.mp4", "-m", own_network, "-q"]
    here = sharpreel(*command, "--engine", "openvino")
    far = sharpreel(*command, "--engine", "openvino", "--cluster", head[1])
    assert (far.returncode, far.stderr) == (here.returncode, here.stderr)
    assert "has no saved graph" in here.stderr


def test_the_token_of_a_cluster_is_sent_to_its_address(
    head: tuple[str, str], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", head[0])
    command = ["upscale", source, "-o", tmp_path / "out.mp4", "-m", "bicubic", "--cluster", "auto"]
    done = sharpreel(*command)
    assert done.returncode == 0, done.stderr
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("HOME", str(tmp_path))  # where there is none
    done = sharpreel(*command, "-y")
    assert done.returncode == 2
    assert "it needs a token). Is its token in RAY_AUTH_TOKEN" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_client_server_that_is_lost_stops_the_run_and_starts_nothing_here(
    head: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "1")
    path = make_clip(tmp_path / "in.mp4", size=(192, 128), frames=96, options={"g": "12"})
    command = ["upscale", path, "-o", tmp_path / "out.mp4", "-m", SMALL, "--json"]
    with started(*command, "--segment-seconds", SEGMENT, "--cluster", head[1]) as process:
        wait_for(process, "segment")
        for one in with_word("ray.util.client.server"):
            one.kill()
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait() == 6, said
    assert "lost connection to the cluster" in said
    assert "Started a local Ray instance" not in said


# Without a cluster.


def test_an_interrupt_is_not_lost_in_a_film() -> None:
    there = Cluster("auto")

    def make(film: int) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # as a finalizer of Ray's does
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert there.stopped.wait(10)

    with pytest.raises(KeyboardInterrupt):
        there.map(make, [0])
    assert there.stopped.is_set()


def test_what_is_not_ray_is_named_in_one_line(
    ray_token: None, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{other.server_port}")
        done = sharpreel("upscale", source, "-o", tmp_path / "out.mp4", "--cluster", "auto")
        other.shutdown()
    assert done.returncode == 2
    assert "(what listens there is not Ray)" in done.stderr


@pytest.mark.parametrize("cluster", ["auto", "local"])
def test_an_input_that_cannot_be_begun_is_told_before_ray_is_started(
    cluster: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter(there: Cluster) -> Cluster:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(Cluster, "__enter__", enter)
    missing, there = str(tmp_path / "none.mp4"), ["--cluster", cluster]
    output = tmp_path / "out.mp4"
    output.touch()
    for words in ([missing], [str(source), "-o", str(output)]):
        here = CliRunner().invoke(app, ["upscale", *words])
        far = CliRunner().invoke(app, ["upscale", *words, *there])
        assert (far.exit_code, far.stderr) == (here.exit_code, here.stderr)
        assert here.exit_code in (2, 3)
    far = CliRunner().invoke(
        app, ["upscale", str(source), "-o", str(output), "--skip-existing", *there]
    )
    assert far.exit_code == 0
    assert "skipped" in far.stderr


def test_slots_serve_the_first_film_first() -> None:
    slots = Slots(lambda: 1)
    assert slots.take(1, 0)
    assert not slots.take(0, 0)
    order: list[int] = []

    def wait(rank: int) -> None:
        assert slots.take(rank, DEADLINE)
        order.append(rank)
        slots.give()

    threads = [threading.Thread(target=wait, args=(rank,)) for rank in (2, 0, 1)]
    for thread in threads:
        thread.start()
    until(lambda: len(slots._waiting) == 3)
    slots.give()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2]
    assert slots.taken == 0


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sharpreel\[cluster\]'"), Cluster("auto"):
        pass


def test_an_error_keeps_its_words_on_its_way_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(MissingExtra("The torch engine", "torch")))
    assert isinstance(error, MissingExtra)
    assert str(error) == str(MissingExtra("The torch engine", "torch"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cluster", "10.0.0.1"], "--cluster 10.0.0.1: must be auto, local or ray://HOST:PORT."),
        (["--cluster", "auto", "--cpus-per-task", "0"], "--cpus-per-task must be 1 or more"),
        (["--cluster", "auto", "--gpus-per-task", "1.5"], "--gpus-per-task 1.5"),
        (["--cluster", "auto", "-o", "-"], "--cluster writes files, not pipes"),
        (["--cluster", "local", "--cpus-per-task", "999"], "a local cluster cannot scale up"),
        (["--cluster", "local", "--gpus-per-task", "99"], "a local cluster cannot scale up"),
        (["--cpus-per-task", "1"], "--cpus-per-task and --gpus-per-task need --cluster"),
        (["--gpus-per-task", "0.5"], "--cpus-per-task and --gpus-per-task need --cluster"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    arguments: list[str], words: str, source: Path
) -> None:
    result = CliRunner().invoke(app, ["upscale", str(source), *arguments])
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_cluster_that_is_not_there_is_named_in_one_line(
    ray_token: None, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{nobody.getsockname()[1]}")
        done = sharpreel("upscale", source, "-o", tmp_path / "out.mp4", "--cluster", "auto")
    assert done.returncode == 2
    assert "sharpreel: --cluster auto: no Ray cluster can be reached there" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_cluster_of_this_machine_warns_and_leaves_nothing(
    ray_token: None, source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    before = {process.pid for process in ray_processes()}
    done = sharpreel(
        "upscale", source, "-o", output, "-m", "bicubic", "--segment-seconds", SEGMENT,
        "--cluster", "local",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "listens on every network interface" in done.stderr
    assert "private network only" in done.stderr
    assert sha256(output) == sha256(alone("bicubic"))
    until(lambda: {process.pid for process in ray_processes()} <= before)


def test_a_client_server_that_is_slow_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def init(address: str, **options: Any) -> None:
        asked.append(address)
        if len(asked) < CONNECTING:
            raise ConnectionAbortedError(f"{SLOW_START}:\nTraceback ...")

    monkeypatch.setattr(ray, "init", init)
    there = Cluster("ray://host:1")
    there.ray = ray
    there._join({})
    assert asked == ["ray://host:1"] * CONNECTING
    asked.clear()
    monkeypatch.setattr(ray_cluster, "CONNECTING", 2)

    def fail(**options: Any) -> None:
        asked.append("x")
        raise RuntimeError("another thing")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(RuntimeError, match="another thing"):
        there._join({})
    assert asked == ["x"]
