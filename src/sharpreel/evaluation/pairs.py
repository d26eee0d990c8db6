"""Clips whose truth is known, as pairs of low and high resolution, frame by frame.

A folder, a data store or one video; reduced here, or with twins in low resolution that are given.
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
# Degradations that are made frame by frame. The others draw something for a whole clip, or code
# it: they get stretches of at most so many frames and bytes.
STREAMED = frozenset({"bi", "bd", "bd-duf", "bd-tecogan", "area"})
STRETCH_FRAMES, STRETCH_BYTES = 100, 1 << 28
SEED = 0  # of degradations with chance: what `store.ClipStore.pairs` makes by default


@dataclass(frozen=True)
class PairedClip:
    """A clip that can be read: its truth, and its twin in low resolution where one is given."""

    name: str
    hr: Callable[[], Iterator[Pixels]]
    lr: Callable[[], Iterator[Pixels]] | None
    total: int | None
    exact: bool  # `total` was counted; not what a container says of itself


def validate_degradation(name: str, scale: float) -> None:
    """Raise UsageError unless frames can be reduced so, by this factor."""
    if name == GIVEN:
        return
    if scale != int(scale):
        if name not in ("bi", "area"):
            raise UsageError(
                f"By {scale:g} frames are reduced by bi or area alone, not by {name!r}."
            )
        return
    side = 16 * int(scale)
    degrade.degrade(np.zeros((1, side, side, 3), np.uint8), int(scale), name)


def find_pairs(
    source: Path,
    list_file: Path | None,
    lr_folder: Path | None,
    degradation: str,
    max_frames: int | None,
    notes: list[str],
    names: tuple[str, ...] = (),
) -> list[PairedClip]:
    """The clips of a store, of a folder, or the one video.

    Args:
        names: The clips of a folder that are taken; empty: all.
    """
    if source.is_dir() and is_store(source):
        if list_file is not None or lr_folder is not None:
            raise UsageError(f"{source} is a data store: lists and twins belong to `data prepare`.")
        return _of_store(open_store(source), degradation, max_frames)
    if source.is_dir():
        sources = find_clips(source, list_file, lr_folder)
        if names:
            there = {one.name: one for one in sources}
            missing = [name for name in names if name not in there]
            if missing:
                raise InputError(f"{source}: clip {missing[0]} is not in it.")
            sources = [there[name] for name in names]
    elif source.exists():
        twins: tuple[Path, ...] = ()
        if lr_folder is not None:
            twins = (lr_folder / source.name if lr_folder.is_dir() else lr_folder,)
        sources = [ClipSource(source.stem, (source,), twins)]
    else:
        raise InputError(f"{source}: no such file or folder.")
    if degradation == GIVEN and not all(one.lr_paths for one in sources):
        raise UsageError(
            f"{source}: say which folder holds the frames in low resolution, or name a degradation."
        )

    def stream(paths: tuple[Path, ...], name: str) -> Callable[[], Iterator[Pixels]]:
        return lambda: decoded(paths, name, notes)

    found = []
    for one in sources:
        is_video = one.paths[0].suffix.lower() not in IMAGE_SUFFIXES
        total = probe(one.paths[0]).num_frames if is_video else len(one.paths)
        if total is not None and max_frames is not None:
            total = min(total, max_frames)
        lr = stream(one.lr_paths, f"{one.name}, low resolution") if one.lr_paths else None
        found.append(PairedClip(one.name, stream(one.paths, one.name), lr, total, not is_video))
    return found


def _of_store(store: ClipStore, degradation: str, max_frames: int | None) -> list[PairedClip]:
    def stream(entry: StoredClip) -> Callable[[], Iterator[Pixels]]:
        return lambda: (np.array(frame) for frame in store.frames(entry))

    found = []
    for entry in store.entries:
        lr = None
        if degradation == GIVEN:
            if not entry.lr_file:
                raise UsageError(
                    f"{entry.name}: no low-resolution twin was given when it was prepared."
                )
            lr = stream(dataclasses.replace(entry, file=entry.lr_file))
        total = entry.frames if max_frames is None else min(entry.frames, max_frames)
        found.append(PairedClip(entry.name, stream(entry), lr, total, True))
    return found


def decoded(paths: tuple[Path, ...], name: str, notes: list[str]) -> Iterator[Pixels]:
    """The frames of a video or of pictures, one by one."""
    if paths[0].suffix.lower() not in IMAGE_SUFFIXES:
        reader = video_reader.VideoReader(probe(paths[0]))
        for frame in reader:
            yield frame.pixels
            del frame
        if reader.report.lost:
            notes.append(f"{name}: {reader.report.lost} frames do not decode and are left out")
        return
    for path in paths:
        yield images.read_rgb(path)


def _of_one_size(frames: Iterable[Pixels], name: str) -> Iterator[Pixels]:
    first: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        first = first or frame.shape
        if frame.shape != first:
            raise InputError(
                f"{name}: frame {index} is {size(frame)}, those before it are "
                f"{first[1]}x{first[0]}."
            )
        yield frame
        del frame


def size(frame: Pixels) -> str:
    """Width and height in words."""
    return f"{frame.shape[1]}x{frame.shape[0]}"


def deepened(frame: Pixels) -> Pixels:
    """The same colours in 16 bits."""
    return frame.astype(np.uint16) * np.uint16(257) if frame.dtype == np.uint8 else frame


def counted(one: PairedClip, max_frames: int | None) -> PairedClip:
    """With its frames counted, where that takes decoding them."""
    if one.exact:
        return one
    count = sum(1 for _ in itertools.islice(one.hr(), max_frames))
    return dataclasses.replace(one, total=count, exact=True)


def pairs(
    one: PairedClip, degradation: str, scale: float, max_frames: int | None, notes: list[str]
) -> Iterator[tuple[Pixels, Pixels]]:
    """lr and hr, frame by frame, each hr of the size that its lr becomes."""
    hr = _of_one_size(itertools.islice(one.hr(), max_frames), one.name)
    if one.lr is not None:
        lr = _of_one_size(itertools.islice(one.lr(), max_frames), f"{one.name}, low resolution")
        return _given(one.name, hr, lr, scale)
    if scale != int(scale):
        return (_reduced_by_part(frame, scale, degradation) for frame in hr)
    if degradation in STREAMED:
        return _reduced(hr, int(scale), degradation)
    return _reduced_in_stretches(one.name, hr, int(scale), degradation, notes)


def _given(
    name: str, hr_frames: Iterator[Pixels], lr_frames: Iterator[Pixels], scale: float
) -> Iterator[tuple[Pixels, Pixels]]:
    for index, (hr, lr) in enumerate(itertools.zip_longest(hr_frames, lr_frames)):
        if hr is None or lr is None:
            there, ended = ("low", "high") if hr is None else ("high", "low")
            raise InputError(
                f"{name}: frame {index} is there in {there} resolution only; the clip in {ended} "
                f"resolution ends after {index} frames."
            )
        high, wide = (ops.enlarged(side, scale) for side in lr.shape[:2])
        rest = hr.shape[0] - high, hr.shape[1] - wide
        if not all(0 <= pixels < scale for pixels in rest):
            raise InputError(
                f"{name}: frame {index} is {size(lr)} in low resolution, which by {scale:g} is "
                f"{wide}x{high}, but {size(hr)} in high resolution."
            )
        cut = hr[:high, :wide]
        yield (lr, cut) if lr.dtype == hr.dtype else (deepened(lr), deepened(cut))
        del hr, lr, cut


def _reduced(frames: Iterator[Pixels], scale: int, name: str) -> Iterator[tuple[Pixels, Pixels]]:
    for frame in frames:
        hr, lr = degrade.degrade(frame[None], scale, name)
        yield lr[0], hr[0]
        del frame, hr, lr


def _reduced_by_part(frame: Pixels, scale: float, name: str) -> tuple[Pixels, Pixels]:
    """By a factor such as 1.5: lr has denominator / numerator of the truth's pixels."""
    part = Fraction(scale).limit_denominator(64)
    whole, rest = part.numerator, part.denominator
    rows, columns = (side // whole for side in frame.shape[:2])
    if not (rows and columns):
        raise InputError(f"Frames of {size(frame)} are too small for a factor of {scale:g}.")
    hr = frame[: rows * whole, : columns * whole]
    if name == "area":
        return area_resize(hr[None], rows * rest, columns * rest)[0], hr
    return ops.resize(hr, rows * rest, columns * rest), hr


def _reduced_in_stretches(
    name: str, frames: Iterator[Pixels], scale: int, degradation: str, notes: list[str]
) -> Iterator[tuple[Pixels, Pixels]]:
    """For degradations of whole clips; the first stretch is what a data store makes."""
    own = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    for number, first in enumerate(frames):  # of each stretch
        length = min(max(STRETCH_BYTES // first.nbytes, 8), STRETCH_FRAMES)
        clip = [in_bytes(f) for f in itertools.chain([first], itertools.islice(frames, length - 1))]
        seed = (SEED, own, number) if number else (SEED, own)
        hr, lr = degrade.degrade(np.stack(clip), scale, degradation, seed)
        if number == 1:
            notes.append(f"{name}: {degradation} was drawn anew for each {length} frames")
        yield from zip(lr, hr, strict=True)
        del clip, hr, lr, first


def in_bytes(frame: Pixels) -> Pixels:
    """The same colours in 8 bits, which the codecs of degradations take."""
    if frame.dtype == np.uint8:
        return frame
    return ((frame.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
