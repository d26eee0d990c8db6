"""Decode clips once into a folder of memory-mapped arrays, and pair them with LR versions.

    folders, lists, videos --find_clips--> ClipSource --prepare--> ClipStore --pairs--> Clip
                                                                   (lr, hr) --sample_batch--> batch

A store holds one memory-mapped file of bytes for each clip. The low-resolution versions are
computed once for each degradation, scale and seed, and are kept beside it in `<store>.lr`. When
several processes need the same store or LR version, one computes it and the others wait.

Crops are cut before anything becomes float (`sampling`). A crop depends only on (seed, step,
number), so training resumes exactly and several processes can share one batch. Clips are never
divided: neighbouring frames always fall into the same part of a split.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sharpreel import ops
from sharpreel.data import degrade
from sharpreel.data.clips import ClipSource, find_clips, first_names
from sharpreel.errors import InputError, UsageError, did_you_mean, write_error
from sharpreel.media import images
from sharpreel.media import reader as video_reader
from sharpreel.media.probe import VIDEO_SUFFIXES, probe
from sharpreel.media.reader import read_frames
from sharpreel.system.files import FileLock, atomic_write

Frames = npt.NDArray[np.uint8]
ProgressCallback = Callable[[str, int, int], None]  # name of a clip, clips done, clips in total
FORMAT = "sharpreel-clips-1"
ORIGIN_BYTES = 1 << 12  # of a clip's first file; there may be very many clips to look at
STILL_FRAMES = 20  # frames that a still becomes by default


@dataclass(frozen=True)
class Clip:
    """A clip in two resolutions: hr is (T, H, W, 3), lr is (T, H / scale, W / scale, 3)."""

    name: str
    hr: Frames
    lr: Frames


@dataclass(frozen=True)
class StoredClip:
    """Manifest entry of a clip in a store.

    Attributes:
        file: Name of its array in the folder of the store.
        sha256: Of its bytes.
        source: Path that it was decoded from.
        lr_file: Array of the LR version that the publisher provides; "": none.
        origin: `origin_of` the files that it was decoded from; "" in stores of the first version.
    """

    name: str
    file: str
    frames: int
    height: int
    width: int
    sha256: str
    rights: str = "unknown"
    source: str = ""
    lr_file: str = ""
    origin: str = ""


@dataclass(frozen=True)
class ClipStore:
    """A folder of decoded clips and its manifest."""

    folder: Path
    entries: tuple[StoredClip, ...] = field(repr=False)

    @property
    def names(self) -> list[str]:
        return [entry.name for entry in self.entries]

    @property
    def rights(self) -> dict[str, int]:
        return dict(Counter(entry.rights for entry in self.entries))

    @property
    def sha256(self) -> str:
        """A checksum of the contents: of the names and checksums of all clips."""
        text = "".join(f"{e.name}\t{e.sha256}\n" for e in self.entries)
        return hashlib.sha256(text.encode()).hexdigest()

    def only(self, names: Iterable[str]) -> ClipStore:
        """Return the same store restricted to these clips.

        Raises:
            InputError: It has no clip of such a name.
        """
        wanted = dict.fromkeys(names)
        known = set(self.names)
        missing = [name for name in wanted if name not in known]
        if missing:
            near = did_you_mean(missing[0], self.names)
            raise InputError(f"{self.folder} has no clip called {first_names(missing)}.{near}")
        return ClipStore(self.folder, tuple(e for e in self.entries if e.name in wanted))

    def frames(self, entry: StoredClip) -> Frames:
        """Return a clip's frames, (T, H, W, 3), memory-mapped: they are read when they are used."""
        path = self.folder / entry.file
        try:
            frames: Frames = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as e:
            raise InputError(f"{path}: missing or damaged. Prepare the data again.") from e
        return frames

    def verify(self) -> None:
        """Raise InputError unless every clip has the SHA-256 that the manifest records."""
        for entry in self.entries:
            if _digest(self.frames(entry)) != entry.sha256:
                raise InputError(
                    f"{self.folder / entry.file}: its SHA-256 is not that of the manifest. Delete "
                    "the file and prepare the data again."
                )

    def pairs(
        self,
        scale: int,
        degradation: str = "bi",
        seed: int = 0,
        on_progress: ProgressCallback | None = None,
        max_frames: int | None = None,
    ) -> list[Clip]:
        """Return each clip with its low-resolution version, computed if it is not on disk yet.

        An LR version that the publisher provides is used with degradation="given" only.
        """
        clips = []
        for k, entry in enumerate(self.entries):
            hr = self.frames(entry)[:max_frames]
            if degradation == "given":
                lr = self._given_lr(entry)[: len(hr)]
            else:
                lr = self._degraded(entry, hr, scale, degradation, seed, max_frames)
            height, width = lr.shape[1] * scale, lr.shape[2] * scale
            if height > hr.shape[1] or width > hr.shape[2] or height == 0:
                raise UsageError(
                    f"{entry.name}: a low-resolution version of {lr.shape[2]}x{lr.shape[1]} does "
                    f"not match {hr.shape[2]}x{hr.shape[1]} at scale {scale}."
                )
            clips.append(Clip(entry.name, hr[:, :height, :width], lr))
            if on_progress is not None:
                on_progress(entry.name, k + 1, len(self.entries))
        return clips

    def _given_lr(self, entry: StoredClip) -> Frames:
        if not entry.lr_file:
            raise UsageError(
                f"{entry.name}: degradation='given', but no low-resolution version was given when "
                "the clip was prepared."
            )
        lr: Frames = np.load(self.folder / entry.lr_file, mmap_mode="r", allow_pickle=False)
        return lr

    def _degraded(
        self,
        entry: StoredClip,
        hr: Frames,
        scale: int,
        name: str,
        seed: int,
        max_frames: int | None,
    ) -> Frames:
        """The LR version by a degradation, from the disk; the first caller computes it."""
        kind = f"{name}-x{scale}-s{seed}" + ("" if max_frames is None else f"-{max_frames}f")
        # Beside the store, which stays as it was prepared. The clip's SHA-256 is part of the name:
        # a store that is prepared again must not find the LR versions of other frames.
        store = Path(os.path.abspath(self.folder))
        folder = store.with_name(store.name + ".lr") / kind
        path = folder / f"{Path(entry.file).stem}-{entry.sha256[:16]}.npy"
        if not path.is_file():
            with _locked(folder):
                if not path.is_file():
                    # Each clip has its own seed, which does not depend on the other clips.
                    own = int(hashlib.sha256(entry.name.encode()).hexdigest()[:8], 16)
                    lr = degrade.degrade(np.asarray(hr), scale, name, (seed, own))[1]
                    _write(path, iter(lr))
        stored: Frames = np.load(path, mmap_mode="r", allow_pickle=False)
        return stored


def prepare_folder(
    folder: Path,
    output: Path,
    *,
    list_file: Path | None = None,
    lr_folder: Path | None = None,
    stills: bool = False,
    max_frames: int | None = None,
    height: int | None = None,
    seed: int = 0,
    on_progress: ProgressCallback | None = None,
) -> ClipStore:
    """Decode the clips of a folder into a store: `find_clips`, then `prepare`; see both.

    Args:
        folder: Videos, or folders of images.
        output: Folder of the store; clips that are in it already are kept.
    """
    sources = find_clips(folder, list_file, lr_folder, stills)
    return prepare(sources, output, max_frames, seed, on_progress, height)


def prepare(
    sources: Sequence[ClipSource],
    folder: Path,
    max_frames: int | None = None,
    seed: int = 0,
    on_progress: ProgressCallback | None = None,
    height: int | None = None,
) -> ClipStore:
    """Decode clips into a store, each frame once; clips that are in it already are kept.

    A clip whose files have changed is decoded again.

    Args:
        max_frames: At most N frames of each clip. A still becomes a clip of N frames, by default
            20.
        seed: Of the camera's path over stills.
        height: Reduce frames to N lines by bicubic; the width follows in proportion and is even.
        on_progress: Called after each clip.

    Raises:
        InputError: A clip cannot be decoded, its frames differ in size, or are too small.
        DiskFullError, UsageError: The store cannot be written.
    """
    with _locked(folder):
        for left in folder.glob("*.npy.*.part"):  # of a process that was killed
            left.unlink(missing_ok=True)
        known = {e.name: e for e in open_store(folder).entries} if is_store(folder) else {}
        entries: list[StoredClip] = []
        for k, source in enumerate(sources):
            entry = _reusable(known.get(source.name), source, folder, height)
            if entry is None:
                file = _free_file(source.name, known.values())
                entry = _store_clip(source, folder, file, max_frames, seed, height)
                known[source.name] = entry
                _write_manifest(folder, [*entries, entry, *_rest(known, entries, entry)])
            entries.append(entry)
            if on_progress is not None:
                on_progress(source.name, k + 1, len(sources))
        entries += _rest(known, entries)
        _write_manifest(folder, entries)
        return ClipStore(folder, tuple(entries)).only(s.name for s in sources)


def _reusable(
    entry: StoredClip | None, source: ClipSource, folder: Path, height: int | None
) -> StoredClip | None:
    """The entry of a clip that need not be decoded again; None: decode it.

    Raises:
        UsageError: It was prepared with another height.
    """
    if entry is None or entry.origin not in ("", origin_of(source)):
        return None
    if height is not None and entry.height != height:
        raise UsageError(
            f"height={height}: {folder} holds {source.name} with {entry.height} lines. Choose "
            "another folder."
        )
    return entry if (folder / entry.file).is_file() else None


def _rest(
    known: dict[str, StoredClip], entries: list[StoredClip], *more: StoredClip
) -> list[StoredClip]:
    have = {e.name for e in (*entries, *more)}
    return [e for name, e in known.items() if name not in have]


def clip_names(folder: Path) -> list[str]:
    """Return the names of the clips in a folder: a store, or a folder that `find_clips` takes."""
    if is_store(folder):
        return open_store(folder).names
    return [source.name for source in find_clips(folder)]


def open_store(folder: Path) -> ClipStore:
    """Open a store that `prepare` wrote.

    Raises:
        InputError: The folder is not a store.
    """
    try:
        content = json.loads(_manifest(folder).read_text())
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        return ClipStore(folder, tuple(StoredClip(**entry) for entry in content["clips"]))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(
            f"{folder}: not a store of clips; create one with `sharpreel data prepare`."
        ) from e


def is_store(folder: Path) -> bool:
    """Whether a folder holds the manifest of a store."""
    return _manifest(folder).is_file()


def _manifest(folder: Path) -> Path:
    return folder / "manifest.json"


def _write_manifest(folder: Path, entries: list[StoredClip]) -> None:
    content = {"format": FORMAT, "clips": [asdict(entry) for entry in entries]}
    try:
        atomic_write(_manifest(folder), json.dumps(content, indent=1))
    except OSError as e:
        raise write_error(folder, e) from e


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is created if missing; other writers wait."""
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as e:
        raise write_error(folder, e) from e
    try:
        yield
    finally:
        lock.release()


def _free_file(name: str, known: Iterable[StoredClip]) -> str:
    """A file name that no other clip has, even on file systems that ignore case."""
    plain = re.sub(r"[^\w.-]+", "_", name)
    taken = {file.casefold() for e in known if e.name != name for file in (e.file, e.lr_file)}
    if not taken.isdisjoint({f"{plain}.npy".casefold(), _given(f"{plain}.npy").casefold()}):
        plain += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain}.npy"


def _given(file: str) -> str:
    return f"given-{file}"


def _store_clip(
    source: ClipSource,
    folder: Path,
    file: str,
    max_frames: int | None,
    seed: int,
    height: int | None,
) -> StoredClip:
    if len(source.paths) == 1 and not source.is_video:
        still = read_images(source.paths)[0]
        frames = pan(still, max_frames or STILL_FRAMES, (seed, *file.encode()))
    else:
        frames = _decoded(source.paths, max_frames)
    if height is not None:
        if source.lr_paths:
            raise UsageError(
                f"height={height}: clips whose low-resolution versions are given keep their height."
            )
        frames = (_reduced(frame, height, source.name) for frame in frames)
    shape, digest = _write(folder / file, frames)
    lr_file = ""
    if source.lr_paths:
        lr_file = _given(file)
        _write(folder / lr_file, _decoded(source.lr_paths, max_frames))
    count, height, width = shape
    return StoredClip(
        name=source.name,
        file=file,
        frames=count,
        height=height,
        width=width,
        sha256=digest,
        rights=source.rights,
        source=str(source.paths[0]),
        lr_file=lr_file,
        origin=origin_of(source),
    )


def origin_of(source: ClipSource) -> str:
    """A digest by which changed files of a clip are recognised: file sizes, first bytes.

    Raises:
        InputError: They cannot be read.
    """
    try:
        sizes = [(p.name, p.stat().st_size) for p in (*source.paths, *source.lr_paths)]
        with source.paths[0].open("rb") as file:
            head = file.read(ORIGIN_BYTES)
    except OSError as e:
        raise InputError(f"{source.paths[0]}: cannot be read ({e.strerror}).") from e
    return hashlib.sha256(repr(sizes).encode() + head).hexdigest()


def _reduced(frame: Frames, height: int, name: str) -> Frames:
    """The frame reduced to `height` lines, its width in proportion and even."""
    rows, columns, _ = frame.shape
    if rows < height:
        raise InputError(
            f"height={height}: {name} is {columns}x{rows}, and training clips are never enlarged. "
            "Choose a smaller height."
        )
    if rows == height:
        return frame
    return _bytes(ops.resize(frame, height, max(2 * round(columns * height / rows / 2), 2)))


def _decoded(paths: tuple[Path, ...], max_frames: int | None) -> Iterator[Frames]:
    """The frames of a video or of images, one by one."""
    if paths[0].suffix.lower() in VIDEO_SUFFIXES:
        reader = video_reader.VideoReader(probe(paths[0]))
        for k, frame in enumerate(reader):
            if k == max_frames:
                return
            yield _bytes(frame.pixels)
        return
    for path in paths[:max_frames]:
        yield read_images([path])[0]


def read_images(paths: Iterable[Path]) -> list[Frames]:
    """Read PNG or JPEG files as RGB bytes, each (H, W, 3)."""
    return [_bytes(images.read_rgb(path)) for path in paths]


def _bytes(pixels: ops.Pixels) -> Frames:
    if pixels.dtype == np.uint8:
        return pixels
    return (pixels.astype(np.uint32) * 255 + 32767).__floordiv__(65535).astype(np.uint8)


def _write(path: Path, frames: Iterator[Frames]) -> tuple[tuple[int, int, int], str]:
    """Write a stream of frames to an .npy file; (frames, height, width) and their SHA-256."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    total, count = hashlib.sha256(), 0
    first: tuple[int, ...] | None = None
    try:
        with part.open("wb") as file:
            for frame in frames:
                if first is None:
                    first = frame.shape
                    _header(file, (0, *first))
                elif frame.shape != first:
                    raise InputError(
                        f"{path.stem}: frame {count} is {frame.shape[1]}x{frame.shape[0]}, the "
                        f"frames before it are {first[1]}x{first[0]}."
                    )
                raw = np.ascontiguousarray(frame).data
                total.update(raw)
                file.write(raw)
                count += 1
            if first is None:
                raise InputError(f"{path.stem}: none of its frames can be decoded.")
            file.seek(0)
            _header(file, (count, *first))  # as long as the first header: numpy pads it
        os.replace(part, path)
    except OSError as e:
        raise write_error(path, e) from e
    finally:
        part.unlink(missing_ok=True)
    return (count, first[0], first[1]), total.hexdigest()


def _header(file: Any, shape: tuple[int, ...]) -> None:
    described = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)


def _digest(frames: Frames) -> str:
    total = hashlib.sha256()
    for frame in frames:
        total.update(np.ascontiguousarray(frame).data)
    return total.hexdigest()


def pan(
    still: Frames, frames: int, seed: int | Sequence[int], share: float = 0.8
) -> Iterator[Frames]:
    """Move a camera over a still: crops of `share` of its sides along a smooth random path.

    After TecoGAN's `moving_first_frame` (Chu et al., 2020). Steps are whole pixels of the still,
    at most 8 per frame; after downscaling they are fractions of a pixel.
    """
    rng = np.random.default_rng(seed)
    height, width = (int(side * share) // 8 * 8 for side in still.shape[:2])
    limit = np.array(still.shape[:2]) - (height, width)
    corner = rng.random(2) * limit
    speed = rng.normal(0, 3, 2)
    for _ in range(frames):
        y, x = np.rint(corner).astype(int)
        yield still[y : y + height, x : x + width]
        speed = np.clip(speed + rng.normal(0, 0.7, 2), -8, 8)
        corner = corner + speed
        speed = np.where((corner < 0) | (corner > limit), -speed, speed)
        corner = np.clip(corner, 0, limit)


def load_clips(
    paths: Iterable[Path], scale: int, max_frames: int | None = None, degradation: str = "bi"
) -> list[Clip]:
    """Decode videos into memory and degrade them to low resolution."""
    clips = []
    for path in paths:
        hr = read_frames(path, max_frames)
        clips.append(Clip(path.stem, *degrade.degrade(hr, scale, degradation)))
    return clips
