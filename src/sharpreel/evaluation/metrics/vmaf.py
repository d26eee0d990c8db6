"""Measure VMAF by the libvmaf of a static FFmpeg, the one of the imageio-ffmpeg package."""

from __future__ import annotations

import importlib
import json
import subprocess
import tempfile
from pathlib import Path

from sharpreel.errors import MissingExtra, SharpreelError, UsageError
from sharpreel.media.frame import VideoInfo
from sharpreel.media.probe import open_input, probe, video_stream
from sharpreel.system.resources import usable_cpus

MODELS = r"version=vmaf_v0.6.1\:name=vmaf|version=vmaf_v0.6.1neg\:name=vmaf_neg"
LOG = "vmaf.json"


def vmaf(sr_path: str | Path, hr_path: str | Path, threads: int | None = None) -> dict[str, float]:
    """Measure VMAF of a video file against its reference, 0 to 100: means over its frames.

    Netflix's models vmaf_v0.6.1 ("vmaf") and vmaf_v0.6.1neg ("vmaf_neg"). Quote NEG for
    super-resolution: plain VMAF rewards sharpening, whether or not the detail is true. Both models
    were made for 1080p watched from three heights away, and equal files score slightly below 100.
    Another release of FFmpeg may give slightly different numbers.

    Frames are compared in order, whatever their timestamps, as they are stored: rotation is not
    applied.

    Args:
        sr_path, hr_path: Videos of the same size and number of frames.
        threads: For the comparison; None: one for each processor.

    Raises:
        MissingExtra: imageio-ffmpeg is not installed.
        UsageError: Sizes or numbers of frames differ.
        InputError: A file is missing or not a video.
    """
    try:
        command: str = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError) as e:
        raise MissingExtra("VMAF (imageio-ffmpeg)", "train") from e
    sr, hr = probe(sr_path), probe(hr_path)
    if (sr.width, sr.height) != (hr.width, hr.height):
        raise UsageError(
            f"VMAF compares videos of one size, but {sr_path} is {sr.width}x{sr.height} and "
            f"{hr_path} is {hr.width}x{hr.height}."
        )
    counts = [_count_frames(path) for path in (sr_path, hr_path)]
    if counts[0] != counts[1]:
        raise UsageError(
            f"VMAF compares frame by frame, but {sr_path} has {counts[0]} frames and {hr_path} "
            f"has {counts[1]}."
        )
    inputs = [
        argument
        for path in (sr_path, hr_path)
        for argument in ("-noautorotate", "-i", f"file:{Path(path).resolve()}")
    ]
    graph = _filter_graph(sr, hr, threads or usable_cpus())
    pooled = _run([command, "-hide_banner", "-nostdin", "-v", "error", *inputs], graph, sr_path)
    return {name: float(pooled[name]["mean"]) for name in ("vmaf", "vmaf_neg")}


def _count_frames(path: str | Path) -> int:
    """Frames of the video that `probe` describes, by the packets that are to be shown."""
    with open_input(path) as container:
        stream = video_stream(container, path)
        return sum(1 for p in container.demux(stream) if p.size and not p.is_discard)


def _filter_graph(sr: VideoInfo, hr: VideoInfo, threads: int) -> str:
    # settb and setpts number the frames, so that the two files cannot drift apart.
    pix_fmt = "yuv420p10le" if max(sr.bits, hr.bits) > 8 else "yuv420p"
    streams = "".join(
        f"[{k}:{info.stream_index}]settb=1/25,setpts=N,format={pix_fmt}[{name}];"
        for k, (name, info) in enumerate((("sr", sr), ("hr", hr)))
    )
    options = f"n_threads={threads}:log_fmt=json:log_path={LOG}"
    return f"{streams}[sr][hr]libvmaf=model='{MODELS}':{options}"


def _run(command: list[str], graph: str, sr_path: str | Path) -> dict[str, dict[str, float]]:
    """Run FFmpeg and return the pooled metrics of libvmaf's log."""
    with tempfile.TemporaryDirectory() as folder:  # the log's name needs no quoting there
        done = subprocess.run(
            [*command, "-filter_complex", graph, "-f", "null", "-"],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        log = Path(folder) / LOG
        if done.returncode or not log.exists():
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            if any("libvmaf" in line and "No such filter" in line for line in lines):
                raise UsageError(
                    f"{command[0]} was built without libvmaf; pip install --upgrade imageio-ffmpeg."
                )
            reason = lines[-1] if lines else f"exit code {done.returncode}"
            raise SharpreelError(f"VMAF of {sr_path} failed: {reason}")
        pooled: dict[str, dict[str, float]] = json.loads(log.read_text())["pooled_metrics"]
    return pooled
