"""Workers compute the frames of a local run, wherever they are, and their errors arrive whole."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharpreel.cluster.ray_cluster import Cluster
from sharpreel.cluster.runner import RaySegmentRunner, SegmentTask
from sharpreel.cluster.worker import JobSpec
from sharpreel.errors import InputError, MissingExtra, SharpreelError, UsageError
from sharpreel.upscale import upscale_video
from tests.support.ray_nodes import (
    FRAMES,
    SEGMENT,
    SMALL,
    make,
    sha256,
)
from tests.support.terminal import sharpreel


@pytest.fixture
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that see neither the input nor the work folder."""
    honest = RaySegmentRunner._describe

    def elsewhere(runner: RaySegmentRunner) -> JobSpec:
        spec = honest(runner)
        nowhere = Path("/nowhere")
        plan = replace(
            spec.plan,
            source=nowhere / "in.mp4",
            input=spec.plan.input.moved(nowhere / "in.mp4"),
            target=spec.plan.target.moved(nowhere / "out.mp4"),
        )
        return replace(spec, plan=plan)

    monkeypatch.setattr(RaySegmentRunner, "_describe", elsewhere)


@pytest.mark.usefixtures("nothing_shared")
def test_machines_that_share_no_disk_get_the_frames_and_send_the_segments(
    there: Cluster, source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    make(there, source, output)
    assert sha256(output) == sha256(alone(SMALL))


@pytest.mark.usefixtures("nothing_shared")
def test_image_folders_return_from_machines_that_share_no_disk(
    there: Cluster, source: Path, alone: Callable[..., Path], tmp_path: Path
) -> None:
    make(there, source, tmp_path / "frames", model="bicubic")
    folder, wanted = tmp_path / "frames", alone("bicubic", "")
    assert len(list(folder.iterdir())) == FRAMES
    for image in wanted.iterdir():
        assert (folder / image.name).read_bytes() == image.read_bytes()


def test_a_network_with_windows_and_its_own_weights_gives_the_same_bytes(
    there: Cluster, source: Path, own_network: Path, tmp_path: Path
) -> None:
    here, out, end = tmp_path / "here.mp4", tmp_path / "out.mp4", 0.8
    model = str(own_network)
    wanted = upscale_video(source, here, model=model, segment_seconds=SEGMENT, end=end)
    result, _ = make(there, source, out, model=model, end=end)
    assert result.engine == wanted.engine == "torch-cpu"
    assert sha256(out) == sha256(here)


def test_an_error_of_a_task_is_that_of_a_local_run(
    there: Cluster, source: Path, own_network: Path, tmp_path: Path
) -> None:
    options: Any = {"model": str(own_network), "engine": "openvino"}
    with pytest.raises(UsageError) as here:
        upscale_video(source, tmp_path / "here.mp4", **options)
    with pytest.raises(UsageError) as far:
        make(there, source, tmp_path / "out.mp4", **options)
    assert str(far.value) == str(here.value)
    assert "has no saved graph" in str(far.value)


def test_a_machine_that_decodes_differently_fails_the_run(
    there: Cluster, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = RaySegmentRunner._tasks

    def other(runner: RaySegmentRunner, *arguments: Any) -> Iterator[SegmentTask]:
        for job in honest(runner, *arguments):
            yield replace(job, record=replace(job.record, tail="0" * 32))

    monkeypatch.setattr(RaySegmentRunner, "_tasks", other)
    with pytest.raises(SharpreelError, match="decodes to other frames there"):
        make(there, source, tmp_path / "out.mp4", model="bicubic")
    assert there.slots.taken == 0


def test_a_damaged_input_has_the_error_and_losses_of_a_local_run(
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
    # Without `strict` both skip the same frames.
    options["strict"] = False
    wanted = upscale_video(broken, tmp_path / "wanted.mp4", **options)
    result, _ = make(there, broken, tmp_path / "far.mp4", **options)
    assert (result.lost, result.frames) == (wanted.lost, wanted.frames)
    assert result.lost > 0
    assert sha256(result.output) == sha256(wanted.output)


def test_an_error_of_a_task_keeps_its_message_through_ray_client(
    head: tuple[str, str], source: Path, own_network: Path, tmp_path: Path
) -> None:
    command = ["upscale", source, "-o", tmp_path / "out.mp4", "-m", own_network, "-q"]
    here = sharpreel(*command, "--engine", "openvino")
    far = sharpreel(*command, "--engine", "openvino", "--cluster", head[1])
    assert (far.returncode, far.stderr) == (here.returncode, here.stderr)
    assert "has no saved graph" in here.stderr


def test_an_error_keeps_its_message_when_it_is_pickled() -> None:
    error = pickle.loads(pickle.dumps(MissingExtra("The torch engine", "torch")))
    assert isinstance(error, MissingExtra)
    assert str(error) == str(MissingExtra("The torch engine", "torch"))
