"""Segments of several Ray nodes on this machine join to the video that one process makes."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from sharpreel.cli.main import app
from sharpreel.cluster import runner
from sharpreel.cluster.ray_cluster import Cluster
from sharpreel.cluster.runner import upscale_videos
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.stages import Progress
from sharpreel.upscale import upscale_video
from tests.support.ray_nodes import (
    FRAMES,
    NODES,
    SEGMENT,
    SMALL,
    make,
    sha256,
    until,
)
from tests.support.terminal import events, sharpreel, started, wait_for
from tests.support.videos import make_clip


def test_a_causal_network_gives_the_bytes_of_a_local_run(
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


def test_progress_reports_the_rate_of_each_node(
    there: Cluster, source: Path, tmp_path: Path
) -> None:
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


@pytest.mark.parametrize("where", ["cluster", "here"])
def test_a_killed_driver_resumes_from_its_journal(
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


def test_upscale_videos_shares_a_cluster(
    there: Cluster, source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    two = [shutil.copy(source, tmp_path / name) for name in ("a.mp4", "b.mp4")]
    seen = set()
    results = upscale_videos(
        two,
        options=UpscaleOptions(model="bicubic", segment_seconds=SEGMENT),
        on_progress=lambda source, progress: seen.add((Path(source).name, progress.event)),
    )
    assert [sha256(one.output) for one in results] == 2 * [sha256(alone("bicubic"))]
    assert {("a.mp4", "segment"), ("b.mp4", "verify")} <= seen


def test_a_straggler_is_computed_by_a_second_worker_too(
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


def test_an_exception_of_the_callback_stops_a_run_that_can_be_resumed(
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


def test_the_videos_of_a_folder_share_the_cluster_and_a_broken_one_fails_alone(
    nodes: Any, source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        shutil.copy(source, videos / name)
    (videos / "bad.mp4").write_text("not a video")
    large = tmp_path / "large"
    command = ["upscale", videos, "-o", large, "-m", "bicubic", "--segment-seconds", SEGMENT]
    done = sharpreel(*command, "--json", "--cluster", "auto", "--cpus-per-task", 1)
    assert done.returncode == 1, done.stderr
    reported = events(done.stdout)
    (shown,) = (one for one in reported if one["event"] == "cluster")
    assert shown["nodes"] >= NODES
    assert reported[-1] == {"event": "finished", "inputs": 4, "failed": 1}
    assert "bad.mp4: not a readable video" in done.stderr
    outputs = sorted(one["output"] for one in reported if one["event"] == "done")
    assert len(outputs) == 3
    for path in outputs:
        assert sha256(Path(path)) == sha256(alone("bicubic"))
    # All of them were under way before the first was done.
    order = [one["event"] for one in reported]
    assert order.index("done") > max(k for k, event in enumerate(order) if event == "start")


def test_messages_of_ray_about_nodes_are_not_among_the_events(
    nodes: Any, there: Cluster, source: Path, tmp_path: Path
) -> None:
    ray = pytest.importorskip("ray")
    publish = pytest.importorskip("ray._private.utils").publish_error_to_driver
    message = "a node is lost"
    command = ["upscale", source, "-o", tmp_path / "out.mp4", "-m", "bicubic", "--json"]
    with started(*command, "--segment-seconds", SEGMENT, "--cluster", "auto") as process:
        wait_for(process, "segment")
        publish("node_died", message, ray._private.worker.global_worker.gcs_client)
        assert process.stdout is not None
        assert process.stderr is not None
        assert events(process.stdout.read())[-1]["event"] == "done"
        assert message in process.stderr.read()


@pytest.mark.parametrize("cluster", ["auto", "local"])
def test_an_input_that_cannot_be_started_is_reported_before_ray_is_started(
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
