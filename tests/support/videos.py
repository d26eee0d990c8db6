"""Small real media files for tests, created on the fly.

`make_clip` and `write_frames` write with PyAV; `ffmpeg` runs the static FFmpeg of imageio-ffmpeg,
which shares no code with the PyAV in use and so is also the independent reference in some tests.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

Pixels = npt.NDArray[Any]  # RGB (H, W, 3), uint8 or uint16
REPO = Path(__file__).resolve().parents[2]
CORPUS = REPO.parent / "shared" / "data" / "media"

# 100 % and 75 % primaries, black, grey and white: a wrong matrix or range changes them visibly.
BARS = [
    (255, 255, 255),
    (191, 191, 0),
    (0, 191, 191),
    (0, 191, 0),
    (191, 0, 191),
    (191, 0, 0),
    (0, 0, 191),
    (0, 0, 0),
]
KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
H273 = {"bt601": 6, "bt709": 1, "bt2020": 9, "unspecified": 2}
LANGUAGES = ("eng", "deu")
FONT = bytes(range(256)) * 5  # what the attachment of `rich_mkv` holds


def ffmpeg(*arguments: str | Path, stdin: bytes | None = None) -> bytes:
    """Run the static FFmpeg and return its stdout; a failure raises with the end of its stderr."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-v", "error", "-y", "-nostdin"]
    if stdin is not None:
        command.remove("-nostdin")
    done = subprocess.run(
        [*command, *map(str, arguments)], input=stdin, capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"ffmpeg {' '.join(map(str, arguments))}: {done.stderr.decode()[-800:]}")
    return done.stdout


def count_frames(path: Path) -> int:
    """Frames that the static FFmpeg decodes from the first video stream."""
    lines = ffmpeg("-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framecrc", "-")
    return sum(1 for line in lines.decode().splitlines() if line and not line.startswith("#"))


def moving(size: tuple[int, int], frames: int, deep: bool = False) -> Iterable[Pixels]:
    """Frames of drifting waves and a box that moves across them; no two are equal.

    Args:
        size: (width, height).
        deep: uint16 instead of uint8.
    """
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    for t in range(frames):
        waves = [
            0.5 + 0.22 * np.sin((x + 2 * t) / 5 + c) + 0.22 * np.cos((y - t) / 4 + 2 * c)
            for c in range(3)
        ]
        frame = np.stack(waves, axis=2)
        left = 3 * t % max(width - width // 4, 1)
        frame[height // 4 : height // 2, left : left + width // 4] = (0.9, 0.8, 0.1)
        top = 65535 if deep else 255
        yield np.rint(frame.clip(0, 1) * top).astype(np.uint16 if deep else np.uint8)


def write_frames(
    path: Path,
    frames: Iterable[Pixels | VideoFrame],
    *,
    rate: int | Fraction = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    audio: bool = False,
    options: Mapping[str, str] | None = None,
    color: tuple[int, int, int, int] | None = None,
    aspect: Fraction | None = None,
    rotation: int = 0,
    threads: int = 1,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Encode frames to a file; see `make_clip`.

    Args:
        frames: RGB arrays, or frames in `pix_fmt` already.
        color: (matrix, primaries, transfer, range) in the numbers of H.273.
        aspect: Sample aspect ratio.
        rotation: Degrees clockwise by which players turn it.
    """
    unit = time_base or (1 / Fraction(rate) if pts is None else Fraction(1, 90000))
    step = round(1 / (Fraction(rate) * unit))
    seconds = 0.0
    with av.open(str(path), "w", options=dict(container_options or {})) as out:
        stream: Any = out.add_stream(codec, rate=Fraction(rate), options=dict(options or {}))
        context = stream.codec_context
        sound: Any = add_sound(out) if audio else None
        for index, pixels in enumerate(frames):
            if isinstance(pixels, VideoFrame):
                frame = pixels
            else:
                kind = "rgb48le" if pixels.dtype == np.uint16 else "rgb24"
                frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), kind)
            if index == 0:
                context.width, context.height = frame.width, frame.height
                context.pix_fmt, context.time_base = pix_fmt, unit
                context.thread_count = threads
                stream.time_base = unit
                if aspect is not None:
                    context.sample_aspect_ratio = aspect
                if rotation:
                    stream.set_display_rotation(-rotation)
                if color is not None:
                    context.colorspace, context.color_primaries = color[0], color[1]
                    context.color_trc, context.color_range = color[2], color[3]
            if frame.format.name != pix_fmt:
                frame = frame.reformat(format=pix_fmt)
            frame.pts = index * step if pts is None else pts[index]
            frame.time_base = unit
            seconds = float((frame.pts + step) * unit)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            write_sound(out, sound, seconds)
    return path


def add_sound(out: av.container.OutputContainer, language: str | None = None) -> Any:
    """Add an audio stream of the codec that is usual in this kind of file."""
    codec = {"webm": "libopus", "avi": "libmp3lame"}.get(out.format.name, "aac")
    stream: Any = out.add_stream(codec, rate=48000, layout="mono")
    stream.codec_context.bit_rate = 64000
    if language:
        stream.metadata["language"] = language
    return stream


def write_sound(
    out: av.container.OutputContainer, stream: Any, seconds: float, pitch: float = 440.0
) -> None:
    """A tone of this length, from time zero."""
    rate, block = 48000, 960
    for start in range(0, max(round(seconds * rate), block), block):
        time = (start + np.arange(block)) / rate
        tone = (0.3 * np.sin(2 * np.pi * pitch * time) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.pts, frame.sample_rate, frame.time_base = start, rate, Fraction(1, rate)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def make_clip(
    path: Path,
    *,
    size: tuple[int, int] = (64, 48),
    frames: int = 24,
    rate: int | Fraction = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pts: Sequence[int] | None = None,
    audio: bool = True,
    options: Mapping[str, str] | None = None,
    **more: Any,
) -> Path:
    """Write a short clip of moving content with a tone; the suffix names the container.

    Args:
        path: The file to write.
        size: (width, height).
        pts: One for each frame in units of 1/90000 s (or of `time_base`); None: even at `rate`.
        audio: With a mono tone as AAC (Opus in WebM, MP3 in AVI).
        options: Of the video encoder.
        more: See `write_frames`: color, aspect, rotation, time_base, threads.

    Returns:
        The path.
    """
    deep = "10" in pix_fmt or "12" in pix_fmt or "16" in pix_fmt
    return write_frames(
        path,
        moving(size, frames if pts is None else len(pts), deep),
        rate=rate,
        codec=codec,
        pix_fmt=pix_fmt,
        pts=pts,
        audio=audio,
        options=options,
        **more,
    )


def bars_yuv(matrix: str, full: bool, depth: int = 8) -> list[tuple[int, int, int]]:
    """Y, Cb, Cr of each of BARS, by the equations of the matrix."""
    kr, kb = KR_KB[matrix]
    unit = 2 ** (depth - 8)
    values = []
    for rgb in BARS:
        r, g, b = (v / 255 for v in rgb)
        y = kr * r + (1 - kr - kb) * g + kb * b
        cb, cr = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
        if full:
            top = 2**depth - 1
            luma, chroma = y * top, [c * top + 128 * unit for c in (cb, cr)]
        else:
            luma, chroma = (16 + 219 * y) * unit, [(128 + 224 * c) * unit for c in (cb, cr)]
        values.append((round(luma), round(chroma[0]), round(chroma[1])))
    return values


def bars_frame(matrix: str, full: bool, size: tuple[int, int]) -> VideoFrame:
    """Vertical BARS as yuv420p planes, without any conversion by FFmpeg."""
    width, height = size
    bars = bars_yuv(matrix, full)
    planes = []
    for plane, (w, h) in enumerate([(width, height), *[(width // 2, height // 2)] * 2]):
        line = np.repeat([b[plane] for b in bars], w // len(bars)).astype(np.uint8)
        planes.append(np.tile(line, (h, 1)))
    frame = VideoFrame(width, height, "yuv420p")
    for k, plane_pixels in enumerate(planes):
        padded = np.zeros((plane_pixels.shape[0], frame.planes[k].line_size), np.uint8)
        padded[:, : plane_pixels.shape[1]] = plane_pixels
        frame.planes[k].update(padded.tobytes())
    return frame


def make_bars(
    path: Path,
    matrix: str,
    *,
    full: bool = False,
    size: tuple[int, int] = (128, 64),
    tagged: bool = True,
    frames: int = 3,
) -> Path:
    """A clip of BARS stored with this matrix and range; losslessly coded H.264."""
    number = H273[matrix if tagged else "unspecified"]
    return write_frames(
        path,
        [bars_frame(matrix, full, size) for _ in range(frames)],
        options={"qp": "0", "preset": "ultrafast"},
        color=(number, 2, 2, 2 if full else 1 if tagged else 0),
    )


def patches(pixels: Pixels) -> list[tuple[float, ...]]:
    """The mean colour in the middle of each of BARS."""
    height, width = pixels.shape[:2]
    bar = width // len(BARS)
    middle = pixels[height // 4 : -height // 4]
    return [
        tuple(middle[:, k * bar + bar // 3 : (k + 1) * bar - bar // 3].mean(axis=(0, 1)))
        for k in range(len(BARS))
    ]


def decode_rgb(path: Path, deep: bool = False) -> Pixels:
    """All frames as the static FFmpeg shows them, (T, H, W, 3), by the tags in the file."""
    width, height = (int(x) for x in probe_size(path))
    kind, dtype = ("rgb48le", np.uint16) if deep else ("rgb24", np.uint8)
    raw = ffmpeg(
        *("-noautorotate", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough"),
        *("-sws_flags", "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"),
        *("-pix_fmt", kind, "-f", "rawvideo", "-"),
    )
    return np.frombuffer(raw, dtype).reshape(-1, height, width, 3)


def probe_size(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as file:
        context = file.streams.video[0].codec_context
        return context.width, context.height


def video_pts(path: Path, stream: int = 0) -> list[Fraction]:
    """Seconds at which each frame of the n-th video stream is shown, in order."""
    with av.open(str(path)) as file:
        chosen = file.streams.video[stream]
        return sorted(
            p.pts * p.time_base
            for p in file.demux(chosen)
            if p.size and p.pts is not None and not p.is_discard
        )


def packets(path: Path, kind: str, number: int = 0) -> list[tuple[Fraction | None, bytes]]:
    """(seconds, bytes) of each packet of the n-th stream of this kind."""
    with av.open(str(path)) as file:
        stream = [s for s in file.streams if s.type == kind][number]
        return [
            (None if p.pts is None or p.time_base is None else p.pts * p.time_base, bytes(p))
            for p in file.demux(stream)
            if p.size
        ]


SRT = """1
00:00:00,100 --> 00:00:00,400
First line.

2
00:00:00,500 --> 00:00:00,900
<i>Second</i> line, with ü.
"""
ASS = """[Script Info]
ScriptType: v4.00+
PlayResX: 64
PlayResY: 48

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Sans,20

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.10,0:00:00.60,Default,,0,0,0,,{\\pos(10,10)}Hello
"""
CHAPTERS = """;FFMETADATA1
[CHAPTER]
TIMEBASE=1/1000
START=0
END=400
title=Opening
[CHAPTER]
TIMEBASE=1/1000
START=400
END=960
title=The end
"""


def make_rich(path: Path, clip: Path | None = None) -> Path:
    """Write a file with nearly everything a container can hold beside its video.

    Two audio tracks (English, and German with a title, of which the second is for the hard of
    hearing), subtitles (SRT and ASS in Matroska, mov_text in MP4), chapters, tags, and in Matroska
    an attached font.
    """
    mkv = path.suffix == ".mkv"
    folder = path.parent
    clip = clip or make_clip(folder / f"{path.stem}-picture.mkv", audio=False)
    for name, text in (("a.srt", SRT), ("b.ass", ASS), ("chapters.txt", CHAPTERS)):
        (folder / name).write_text(text)
    (folder / "font.ttf").write_bytes(FONT)
    extra: list[str | Path] = []
    if mkv:
        extra = ["-attach", folder / "font.ttf", "-metadata:s:t:0", "mimetype=font/ttf"]
    ffmpeg(
        *("-i", clip, "-f", "lavfi", "-i", "sine=440:d=0.96", "-f", "lavfi"),
        *("-i", "sine=660:d=0.96", "-i", folder / "a.srt"),
        *(("-i", folder / "b.ass") if mkv else ("-i", folder / "a.srt")),
        *("-i", folder / "chapters.txt", "-map_metadata", "5", *extra),
        *("-map", "0:v", "-map", "1:a", "-map", "2:a", "-map", "3:s", "-map", "4:s"),
        *("-c:v", "copy", "-c:a", "aac", "-c:s", *(("copy",) if mkv else ("mov_text",))),
        *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"),
        *("-metadata:s:a:1", "title=Kommentar", "-disposition:a:1", "hearing_impaired"),
        *("-metadata:s:s:0", "language=fra", "-metadata:s:s:1", "language=jpn"),
        *("-disposition:s:0", "forced", "-metadata:s:v:0", "language=eng"),
        *("-metadata", "title=A title", "-metadata", "artist=Somebody"),
        *("-metadata", "comment=Two words", path),
    )
    return path


def make_hdr10(path: Path, frames: int = 6) -> Path:
    """10-bit HEVC tagged PQ and BT.2020, with mastering display and content light level."""
    light = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    return make_clip(
        path,
        frames=frames,
        codec="libx265",
        pix_fmt="yuv420p10le",
        color=(9, 9, 16, 1),
        options={
            "preset": "ultrafast",
            "x265-params": f"log-level=none:hdr10=1:repeat-headers=1:{light}:max-cll=1000,400",
        },
    )


def make_interlaced(path: Path, frames: int = 12) -> Path:
    """MPEG-2 flagged interlaced, top field first: a vertical edge that moves between the fields."""
    width, height = 128, 96
    whole = []
    for t in range(frames):
        woven = np.full((height, width, 3), 40, np.uint8)
        for parity in (0, 1):
            edge = 10 + 4 * (2 * t + parity)
            woven[parity::2, edge : edge + 30] = 220
        frame = VideoFrame.from_ndarray(woven, "rgb24").reformat(format="yuv420p", interpolation=1)
        whole.append(frame.to_ndarray().tobytes())
    ffmpeg(
        *("-f", "rawvideo", "-s", f"{width}x{height}", "-pix_fmt", "yuv420p", "-r", "25"),
        *("-i", "-", "-vf", "setfield=tff", "-c:v", "mpeg2video", "-q:v", "2"),
        *("-flags", "+ildct+ilme", path),
        stdin=b"".join(whole),
    )
    return path


def comb_energy(pixels: Pixels) -> float:
    """How much more neighbouring lines differ than lines two apart, as in woven fields."""
    gray = pixels.astype(np.float64).mean(axis=-1)
    one = np.abs(np.diff(gray, axis=-2)).mean()
    two = np.abs(gray[..., 2:, :] - gray[..., :-2, :]).mean()
    return float(one - two)


def make_timecode(path: Path) -> Path:
    """A QuickTime or MP4 file with a timecode track."""
    clip = make_clip(path.with_name(f"{path.stem}-picture.mp4"), frames=12)
    ffmpeg("-i", clip, "-c", "copy", "-timecode", "01:02:03:04", path)
    return path


def make_cover(path: Path, **tags: str) -> Path:
    """A video with a cover image, in the form of its container."""
    clip = make_clip(path.with_name(f"{path.stem}-picture.mkv"), frames=12)
    image = path.with_name("cover.png")
    image.write_bytes(png(next(iter(moving((40, 40), 1)))))
    if path.suffix == ".mkv":
        ffmpeg(
            *("-i", clip, "-map", "0", "-c", "copy", "-attach", image),
            *("-metadata:s:t:0", "mimetype=image/png"),
            *[word for key, value in tags.items() for word in ("-metadata", f"{key}={value}")],
            path,
        )
    else:
        ffmpeg(
            *("-i", clip, "-i", image, "-map", "0", "-map", "1", "-c", "copy"),
            *("-disposition:v:1", "attached_pic", path),
        )
    return path


def png(pixels: Pixels) -> bytes:
    """The bytes of a PNG file, by the static FFmpeg: RGB or RGBA, 8 or 16 bits."""
    height, width, channels = pixels.shape
    deep = pixels.dtype == np.uint16
    kind = {3: "rgb48le", 4: "rgba64le"}[channels] if deep else {3: "rgb24", 4: "rgba"}[channels]
    return ffmpeg(
        *("-f", "rawvideo", "-s", f"{width}x{height}", "-pix_fmt", kind, "-i", "-"),
        *("-frames:v", "1", "-c:v", "png", "-f", "image2pipe", "-"),
        stdin=np.ascontiguousarray(pixels).tobytes(),
    )


def read_png(path: Path, kind: str = "rgb24") -> Pixels:
    """The pixels of an image by the static FFmpeg, in this pixel format."""
    width, height = probe_size(path)
    raw = ffmpeg("-i", path, "-pix_fmt", kind, "-f", "rawvideo", "-")
    dtype = np.uint16 if "48" in kind or "64" in kind else np.uint8
    return np.frombuffer(raw, dtype).reshape(height, width, -1)
