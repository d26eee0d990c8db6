"""Clips to train and to measure on: found in folders, decoded once to a store, cut to batches.

    folders, lists, videos --find_clips--> Source --prepare--> store --Store.pairs--> Clip
                                                                 (lr, hr) --sample_batch--> batch

The store holds one memory-mapped file of bytes for each clip; its low-resolution twins, made once
for each degradation, factor and seed, lie beside it in `<store>.lr`. Where several processes want
the same store or twins, one makes them and the others wait. Crops are cut before anything becomes
float. Which crop a sample is depends on (seed, step, number) alone, so training resumes exactly and
several processes share one batch. Clips are split whole: neighbouring frames never fall into two
parts.
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
from sharpreel.data.clips import ClipSource, first_names
from sharpreel.errors import InputError, UsageError, did_you_mean, write_error
from sharpreel.media import images
from sharpreel.media import reader as video_reader
from sharpreel.media.probe import VIDEO_SUFFIXES, probe
from sharpreel.media.reader import read_frames
from sharpreel.system.files import FileLock, atomic_write

Frames = npt.NDArray[np.uint8]
Tell = Callable[[str, int, int], None]  # what was done, how many of how many
FORMAT = "sharpreel-clips-1"
ORIGIN_BYTES = 1 << 12  # of a clip's first file; there may be very many clips to look at


# The store -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """One clip, (T, H, W, 3) high-resolution and (T, H / scale, W / scale, 3) low."""

    name: str
    hr: Frames
    lr: Frames


@dataclass(frozen=True)
class StoredClip:
    """A clip in a store: where it is, how large, the SHA-256 of its bytes, and `origin_of` what
    it was decoded from ("" in stores of the first version)."""

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
        """Names the contents: of all clips' names and sums."""
        text = "".join(f"{e.name}\t{e.sha256}\n" for e in self.entries)
        return hashlib.sha256(text.encode()).hexdigest()

    def only(self, names: Iterable[str]) -> ClipStore:
        """The same store with these clips alone.

        Raises:
            InputError: It has no clip of such a name.
        """
        wanted = dict.fromkeys(names)
        there = set(self.names)
        missing = [name for name in wanted if name not in there]
        if missing:
            near = did_you_mean(missing[0], self.names)
            raise InputError(f"{self.folder} has no clip called {first_names(missing)}.{near}")
        return ClipStore(self.folder, tuple(e for e in self.entries if e.name in wanted))

    def frames(self, entry: StoredClip) -> Frames:
        """A clip's frames, (T, H, W, 3), read from the disk as they are used."""
        path = self.folder / entry.file
        try:
            frames: Frames = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as e:
            raise InputError(f"{path}: missing or damaged. Prepare the data again.") from e
        return frames

    def verify(self) -> None:
        """Raise InputError unless every clip's bytes are those of the manifest."""
        for entry in self.entries:
            if _digest(self.frames(entry)) != entry.sha256:
                raise InputError(
                    f"{self.folder / entry.file}: not the bytes of the manifest. Delete the file "
                    "and prepare the data again."
                )

    def pairs(
        self,
        scale: int,
        degradation: str = "bi",
        seed: int = 0,
        tell: Tell | None = None,
        max_frames: int | None = None,
    ) -> list[Clip]:
        """Each clip with its low-resolution twin, which is made when it is not there yet.

        A twin that the publisher gave is used for "given" alone.
        """
        clips = []
        for k, entry in enumerate(self.entries):
            hr = self.frames(entry)[:max_frames]
            if degradation == "given":
                if not entry.lr_file:
                    raise UsageError(
                        f"{entry.name}: no low-resolution twin was given when it was prepared."
                    )
                lr = np.load(self.folder / entry.lr_file, mmap_mode="r", allow_pickle=False)
                lr = lr[: len(hr)]
            else:
                lr = self._twin(entry, hr, scale, degradation, seed, max_frames)
            high, wide = lr.shape[1] * scale, lr.shape[2] * scale
            if high > hr.shape[1] or wide > hr.shape[2] or high == 0:
                raise UsageError(
                    f"{entry.name}: a twin of {lr.shape[2]}x{lr.shape[1]} does not go with "
                    f"{hr.shape[2]}x{hr.shape[1]} at factor {scale}."
                )
            clips.append(Clip(entry.name, hr[:, :high, :wide], lr))
            if tell is not None:
                tell(entry.name, k + 1, len(self.entries))
        return clips

    def _twin(
        self,
        entry: StoredClip,
        hr: Frames,
        scale: int,
        name: str,
        seed: int,
        max_frames: int | None,
    ) -> Frames:
        kind = f"{name}-x{scale}-s{seed}" + ("" if max_frames is None else f"-{max_frames}f")
        # Beside the store, which stays as it was prepared. The clip's sum is part of the name, for
        # a store that is made anew must not meet the twins of other pictures.
        store = Path(os.path.abspath(self.folder))
        folder = store.with_name(store.name + ".lr") / kind
        path = folder / f"{Path(entry.file).stem}-{entry.sha256[:16]}.npy"
        if not path.is_file():
            with _alone(folder):
                if not path.is_file():
                    # Each clip has a seed of its own, the same whatever clips are beside it.
                    own = int(hashlib.sha256(entry.name.encode()).hexdigest()[:8], 16)
                    lr = degrade.degrade(np.asarray(hr), scale, name, (seed, own))[1]
                    _write(path, iter(lr))
        twin: Frames = np.load(path, mmap_mode="r", allow_pickle=False)
        return twin


def prepare(
    sources: Sequence[ClipSource],
    folder: Path,
    max_frames: int | None = None,
    seed: int = 0,
    tell: Tell | None = None,
    height: int | None = None,
) -> ClipStore:
    """Decode clips to a store, each frame once; what is in the store already stays.

    A clip whose files have become others is decoded anew.

    Args:
        max_frames: Of each clip, at most so many. A still becomes a clip of so many, 20 by default.
        seed: Of the camera's way over stills.
        height: Reduce frames to so many lines by bicubic, the width in proportion and even.

    Raises:
        InputError: A clip cannot be decoded, its pictures differ in size, or they are too small.
        DiskFullError, UsageError: The store cannot be written.
    """
    with _alone(folder):
        for left in folder.glob("*.npy.*.part"):  # of a process that was killed
            left.unlink(missing_ok=True)
        known = {e.name: e for e in open_store(folder).entries} if is_store(folder) else {}
        entries: list[StoredClip] = []
        for k, source in enumerate(sources):
            entry = known.get(source.name)
            if entry is not None and entry.origin not in ("", origin_of(source)):
                entry = None
            if entry is not None and height is not None and entry.height != height:
                raise UsageError(
                    f"{folder}: {source.name} was prepared with {entry.height} lines, not "
                    f"{height}. Choose another folder."
                )
            if entry is None or not (folder / entry.file).is_file():
                file = _free_file(source.name, known.values())
                entry = _store_clip(source, folder, file, max_frames, seed, height)
                known[source.name] = entry
                _write_manifest(folder, [*entries, entry, *_rest(known, entries, entry)])
            entries.append(entry)
            if tell is not None:
                tell(source.name, k + 1, len(sources))
        entries += _rest(known, entries)
        _write_manifest(folder, entries)
        return ClipStore(folder, tuple(entries)).only(s.name for s in sources)


def _rest(
    known: dict[str, StoredClip], entries: list[StoredClip], *more: StoredClip
) -> list[StoredClip]:
    have = {e.name for e in (*entries, *more)}
    return [e for name, e in known.items() if name not in have]


def open_store(folder: Path) -> ClipStore:
    """A store that `prepare` made.

    Raises:
        InputError: It is none.
    """
    try:
        content = json.loads(_manifest(folder).read_text())
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        return ClipStore(folder, tuple(StoredClip(**entry) for entry in content["clips"]))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(
            f"{folder}: not a store of clips; make one with `sharpreel data prepare`."
        ) from e


def is_store(folder: Path) -> bool:
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
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder, made when it is not there; who else wants to write to it waits."""
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
    """A clip's file, which no other clip has, even where A and a are one name."""
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
        frames = pan(read_images(source.paths)[0], max_frames or 20, (seed, *file.encode()))
    else:
        frames = _decoded(source.paths, max_frames)
    if height is not None:
        if source.lr_paths:
            raise UsageError("Clips whose low-resolution twins are given keep their height.")
        frames = (_lowered(frame, height, source.name) for frame in frames)
    shape, digest = _write(folder / file, frames)
    lr_file = ""
    if source.lr_paths:
        lr_file = _given(file)
        _write(folder / lr_file, _decoded(source.lr_paths, max_frames))
    frames_count, height, width = shape
    return StoredClip(
        source.name, file, frames_count, height, width, digest, source.rights,
        str(source.paths[0]), lr_file, origin_of(source),
    )  # fmt: skip


def origin_of(source: ClipSource) -> str:
    """What tells a clip's files from others of the same names: their sizes, the first one's head.

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


def _lowered(frame: Frames, height: int, name: str) -> Frames:
    """A frame of so many lines, its width in proportion and even."""
    rows, columns, _ = frame.shape
    if rows < height:
        raise InputError(
            f"{name}: {columns}x{rows} is lower than {height} lines, and clips are never enlarged "
            "to learn from. Choose a smaller height."
        )
    if rows == height:
        return frame
    return _bytes(ops.resize(frame, height, max(2 * round(columns * height / rows / 2), 2)))


def _decoded(paths: tuple[Path, ...], max_frames: int | None) -> Iterator[Frames]:
    """The frames of a video or of pictures, one by one."""
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
    """PNG or JPEG files as RGB bytes (H, W, 3)."""
    return [_bytes(images.read_rgb(path)) for path in paths]


def _bytes(pixels: ops.Pixels) -> Frames:
    if pixels.dtype == np.uint8:
        return pixels
    return (pixels.astype(np.uint32) * 255 + 32767).__floordiv__(65535).astype(np.uint8)


def _write(path: Path, frames: Iterator[Frames]) -> tuple[tuple[int, int, int], str]:
    """Write frames to an .npy file as they come; (frames, height, width) and their SHA-256."""
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
                        f"{path.stem}: frame {count} is {frame.shape[1]}x{frame.shape[0]}, those "
                        f"before it are {first[1]}x{first[0]}."
                    )
                raw = np.ascontiguousarray(frame).data
                total.update(raw)
                file.write(raw)
                count += 1
            if first is None:
                raise InputError(f"{path.stem}: no frame decodes.")
            file.seek(0)
            _header(file, (count, *first))  # as long as the first one: numpy leaves room to grow
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
    """A camera moved over a still: crops of `share` of its sides along a smooth random way.

    After TecoGAN's `moving_first_frame` (Chu et al., 2020). Steps are whole pixels of the still,
    up to 8 a frame; after the reduction they are parts of a pixel.
    """
    rng = np.random.default_rng(seed)
    height, width = (int(side * share) // 8 * 8 for side in still.shape[:2])
    room = np.array(still.shape[:2]) - (height, width)
    at = rng.random(2) * room
    speed = rng.normal(0, 3, 2)
    for _ in range(frames):
        y, x = np.rint(at).astype(int)
        yield still[y : y + height, x : x + width]
        speed = np.clip(speed + rng.normal(0, 0.7, 2), -8, 8)
        at = at + speed
        speed = np.where((at < 0) | (at > room), -speed, speed)
        at = np.clip(at, 0, room)


def load_clips(
    paths: Iterable[Path], scale: int, max_frames: int | None = None, degradation: str = "bi"
) -> list[Clip]:
    """Decode videos into memory and make their low-resolution twins."""
    clips = []
    for path in paths:
        hr = read_frames(path, max_frames)
        clips.append(Clip(path.stem, *degrade.degrade(hr, scale, degradation)))
    return clips
