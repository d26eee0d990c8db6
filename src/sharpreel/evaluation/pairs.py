"""Find clips with a known ground truth and read them as pairs of lr and hr frames.

The source is a folder, a data store or one video. Its frames are downscaled here by a degradation,
or low-resolution versions are given.

    find_pairs ──> PairedClip for each clip ──read_pairs──> (lr, hr), (lr, hr), ...
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from sharpreel import ops
from sharpreel.data import degrade
from sharpreel.data.clips import ClipSource, find_clips
from sharpreel.data.degrade.resample import area_resize
from sharpreel.data.store import ClipStore, StoredClip, is_store, open_store
from sharpreel.errors import InputError, UsageError
from sharpreel.media import images
from sharpreel.media import reader as video_reader
from sharpreel.media.probe import IMAGE_SUFFIXES, probe
from sharpreel.ops import Pixels

GIVEN = "given"
# Degradations that work frame by frame. The others draw parameters for a clip, or encode it: they
# get chunks of at most N frames and N bytes.
STREAMED = frozenset({"bi", "bd", "bd-duf", "bd-tecogan", "area"})
CHUNK_FRAMES, CHUNK_BYTES = 100, 1 << 28
SEED = 0  # of random degradations: the default of `store.ClipStore.pairs`


@dataclass(frozen=True)
class PairSource:
    """Which clips to read, and where their lr frames come from.

    Attributes:
        path: A folder of clips as `clips.find_clips` finds them, a data store, or one video.
        list_file: Names of the clips to take; see `clips.find_clips`.
        lr_folder: Low-resolution versions, with the same layout as the folder.
        degradation: A key of `degrade.DEGRADATIONS`, or GIVEN: from a store or `lr_folder`.
        max_frames: At most N frames of each clip.
        names: The clips of a folder to take; empty: all.
    """

    path: Path
    list_file: Path | None = None
    lr_folder: Path | None = None
    degradation: str = "bi"
    max_frames: int | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairedClip:
    """A clip to read: its reference, and its low-resolution version where one is given.

    Attributes:
        hr, lr: Called for the frames, from the first one.
        total: Number of frames, where it is known.
        exact: `total` was counted; it is not the claim of a container.
    """

    name: str
    hr: Callable[[], Iterator[Pixels]]
    lr: Callable[[], Iterator[Pixels]] | None
    total: int | None
    exact: bool


def validate_degradation(name: str, scale: float) -> None:
    """Raise UsageError unless frames can be downscaled by this degradation at this scale."""
    if name == GIVEN:
        return
    if scale != int(scale):
        if name not in ("bi", "area"):
            raise UsageError(
                f"Scale {scale:g} supports only the bi and area degradations, not {name!r}."
            )
        return
    side = 16 * int(scale)
    degrade.degrade(np.zeros((1, side, side, 3), np.uint8), int(scale), name)


def find_pairs(source: PairSource, notes: list[str]) -> list[PairedClip]:
    """Find the clips of a source.

    Args:
        notes: What is found while frames are read, such as frames that cannot be decoded, is
            appended here.

    Raises:
        InputError: There is no such source, or a clip in it is missing.
        UsageError: The source does not go with the list, `lr_folder` or the degradation.
    """
    path = source.path
    if path.is_dir() and is_store(path):
        if source.list_file is not None or source.lr_folder is not None:
            raise UsageError(
                f"{path} is a data store: `list_file` and `lr_folder` belong to `data prepare`."
            )
        return _clips_of_store(open_store(path), source)
    clips = _clip_sources(source)
    if source.degradation == GIVEN and not all(clip.lr_paths for clip in clips):
        raise UsageError(
            f"{path}: set `lr_folder` to the folder of the low-resolution frames, or choose a "
            "degradation."
        )
    return [_paired_clip(clip, source.max_frames, notes) for clip in clips]


def _clip_sources(source: PairSource) -> list[ClipSource]:
    """The clips of a folder, or the one video."""
    path, lr_folder = source.path, source.lr_folder
    if path.is_dir():
        clips = find_clips(path, source.list_file, lr_folder)
        if not source.names:
            return clips
        by_name = {clip.name: clip for clip in clips}
        missing = [name for name in source.names if name not in by_name]
        if missing:
            raise InputError(f"{path}: clip {missing[0]} is not in it.")
        return [by_name[name] for name in source.names]
    if path.exists():
        lr_paths: tuple[Path, ...] = ()
        if lr_folder is not None:
            lr_paths = (lr_folder / path.name if lr_folder.is_dir() else lr_folder,)
        return [ClipSource(path.stem, (path,), lr_paths)]
    raise InputError(f"{path}: no such file or folder.")


def _paired_clip(clip: ClipSource, max_frames: int | None, notes: list[str]) -> PairedClip:
    def stream(paths: tuple[Path, ...], name: str) -> Callable[[], Iterator[Pixels]]:
        return lambda: decoded(paths, name, notes)

    is_video = clip.paths[0].suffix.lower() not in IMAGE_SUFFIXES
    total = probe(clip.paths[0]).num_frames if is_video else len(clip.paths)
    if total is not None and max_frames is not None:
        total = min(total, max_frames)
    lr = stream(clip.lr_paths, f"{clip.name}, low resolution") if clip.lr_paths else None
    return PairedClip(clip.name, stream(clip.paths, clip.name), lr, total, not is_video)


def _clips_of_store(store: ClipStore, source: PairSource) -> list[PairedClip]:
    def stream(entry: StoredClip) -> Callable[[], Iterator[Pixels]]:
        return lambda: (np.array(frame) for frame in store.frames(entry))

    clips = []
    for entry in store.entries:
        lr = None
        if source.degradation == GIVEN:
            if not entry.lr_file:
                raise UsageError(
                    f"{entry.name}: degradation='given', but no low-resolution version was given "
                    "when the clip was prepared."
                )
            lr = stream(dataclasses.replace(entry, file=entry.lr_file))
        total = entry.frames
        if source.max_frames is not None:
            total = min(total, source.max_frames)
        clips.append(PairedClip(entry.name, stream(entry), lr, total, True))
    return clips


def decoded(paths: tuple[Path, ...], name: str, notes: list[str]) -> Iterator[Pixels]:
    """The frames of a video or of images, one by one; `notes` counts those that are lost."""
    if paths[0].suffix.lower() not in IMAGE_SUFFIXES:
        reader = video_reader.VideoReader(probe(paths[0]))
        for frame in reader:
            yield frame.pixels
            del frame
        if reader.report.lost:
            notes.append(f"{name}: {reader.report.lost} frames cannot be decoded and are skipped")
        return
    for path in paths:
        yield images.read_rgb(path)


def with_exact_total(clip: PairedClip, max_frames: int | None) -> PairedClip:
    """The clip with its frames counted, by decoding them if there is no other way."""
    if clip.exact:
        return clip
    count = sum(1 for _ in itertools.islice(clip.hr(), max_frames))
    return dataclasses.replace(clip, total=count, exact=True)


def read_pairs(
    clip: PairedClip, source: PairSource, scale: float, notes: list[str]
) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield lr and hr of each frame; hr is cropped at the bottom and right to `scale` times lr.

    Raises:
        InputError: Frames differ in size, or lr and hr do not fit together.
    """
    max_frames, degradation = source.max_frames, source.degradation
    hr = _of_one_size(itertools.islice(clip.hr(), max_frames), clip.name)
    if clip.lr is not None:
        lr = _of_one_size(itertools.islice(clip.lr(), max_frames), f"{clip.name}, low resolution")
        return _given(clip.name, hr, lr, scale)
    if scale != int(scale):
        return (_downscaled_by_fraction(frame, scale, degradation) for frame in hr)
    if degradation in STREAMED:
        return _degraded(hr, int(scale), degradation)
    return _degraded_in_chunks(clip.name, hr, int(scale), degradation, notes)


def _of_one_size(frames: Iterable[Pixels], name: str) -> Iterator[Pixels]:
    first: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        first = first or frame.shape
        if frame.shape != first:
            raise InputError(
                f"{name}: frame {index} is {size_text(frame)}, the frames before it are "
                f"{first[1]}x{first[0]}."
            )
        yield frame
        del frame


def _given(
    name: str, hr_frames: Iterator[Pixels], lr_frames: Iterator[Pixels], scale: float
) -> Iterator[tuple[Pixels, Pixels]]:
    for index, (hr, lr) in enumerate(itertools.zip_longest(hr_frames, lr_frames)):
        if hr is None or lr is None:
            longer, shorter = ("low", "high") if hr is None else ("high", "low")
            raise InputError(
                f"{name}: frame {index} exists in {longer} resolution only; the clip in {shorter} "
                f"resolution ends after {index} frames."
            )
        height, width = (ops.enlarged(side, scale) for side in lr.shape[:2])
        excess = hr.shape[0] - height, hr.shape[1] - width
        if not all(0 <= pixels < scale for pixels in excess):
            raise InputError(
                f"{name}: frame {index} is {size_text(lr)} in low resolution, {width}x{height} at "
                f"scale {scale:g}, but {size_text(hr)} in high resolution."
            )
        cropped = hr[:height, :width]
        same_type = lr.dtype == hr.dtype
        yield (lr, cropped) if same_type else (in_16_bits(lr), in_16_bits(cropped))
        del hr, lr, cropped


def _degraded(frames: Iterator[Pixels], scale: int, name: str) -> Iterator[tuple[Pixels, Pixels]]:
    for frame in frames:
        hr, lr = degrade.degrade(frame[None], scale, name)
        yield lr[0], hr[0]
        del frame, hr, lr


def _downscaled_by_fraction(frame: Pixels, scale: float, name: str) -> tuple[Pixels, Pixels]:
    """At a scale such as 1.5 = 3/2: each 3 hr pixels become 2 lr pixels."""
    fraction = Fraction(scale).limit_denominator(64)
    hr_step, lr_step = fraction.numerator, fraction.denominator
    rows, columns = (side // hr_step for side in frame.shape[:2])
    if not (rows and columns):
        raise InputError(f"Frames of {size_text(frame)} are too small for scale {scale:g}.")
    hr = frame[: rows * hr_step, : columns * hr_step]
    if name == "area":
        return area_resize(hr[None], rows * lr_step, columns * lr_step)[0], hr
    return ops.resize(hr, rows * lr_step, columns * lr_step), hr


def _degraded_in_chunks(
    name: str, frames: Iterator[Pixels], scale: int, degradation: str, notes: list[str]
) -> Iterator[tuple[Pixels, Pixels]]:
    """For degradations of complete clips; the first chunk is the same as in a data store."""
    own = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    for number, first in enumerate(frames):  # of each chunk
        length = min(max(CHUNK_BYTES // first.nbytes, 8), CHUNK_FRAMES)
        clip = [in_bytes(f) for f in itertools.chain([first], itertools.islice(frames, length - 1))]
        seed = (SEED, own, number) if number else (SEED, own)
        hr, lr = degrade.degrade(np.stack(clip), scale, degradation, seed)
        if number == 1:
            notes.append(f"{name}: {degradation} was drawn again after every {length} frames")
        yield from zip(lr, hr, strict=True)
        del clip, hr, lr, first


def size_text(frame: Pixels) -> str:
    """Width and height as text."""
    return f"{frame.shape[1]}x{frame.shape[0]}"


def in_16_bits(frame: Pixels) -> Pixels:
    """The same colours in 16 bits."""
    return frame.astype(np.uint16) * np.uint16(257) if frame.dtype == np.uint8 else frame


def in_bytes(frame: Pixels) -> Pixels:
    """The same colours in 8 bits, which the codecs of degradations need."""
    if frame.dtype == np.uint8:
        return frame
    return ((frame.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
