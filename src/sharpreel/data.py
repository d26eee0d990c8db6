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

import csv
import hashlib
import json
import math
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sharpreel import degrade, images, journal, ops, video
from sharpreel.errors import InputError, UsageError, did_you_mean, write_error
from sharpreel.locks import Lock

Frames = npt.NDArray[np.uint8]
Tell = Callable[[str, int, int], None]  # what was done, how many of how many
Rated = TypeVar("Rated", "Source", "Entry")
FORMAT = "sharpreel-clips-1"
ORIGIN_BYTES = 1 << 12  # of a clip's first file; there may be very many clips to look at
TRUTH = ("truth", "gt", "hr")  # folders that hold a clip's frames and are not its name


# Finding ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """One clip before it is decoded.

    Attributes:
        name: Unique; with slashes, as in `00001/0001`. A video's has no suffix, unless something
            beside it would have the same name.
        paths: One video, or pictures in the order of time. A single picture is a still.
        lr_paths: Its low-resolution twin, where the publisher gives one.
        rights: As a manifest beside the folder says, else "unknown".
    """

    name: str
    paths: tuple[Path, ...]
    lr_paths: tuple[Path, ...] = ()
    rights: str = "unknown"

    @property
    def is_video(self) -> bool:
        return self.paths[0].suffix.lower() in video.VIDEO_SUFFIXES


def find_clips(
    folder: Path,
    list_file: Path | None = None,
    lr_folder: Path | None = None,
    stills: bool = False,
) -> list[Source]:
    """The clips below a folder, in the layouts that data sets have.

        Vimeo-90K   sequences/00001/0001/im1.png ...          a list names 00001/0001
        REDS        train_sharp/000/00000000.png ...          give that folder
        Vid4        calendar/001.png ...  or GT/calendar/...  a list may name single frames
        SPMCS       car05_001/truth/0001.png ...
        videos      any folder of video files, at any depth

    Args:
        list_file: Names of clips, folders, frames or videos, one a line; what it does not name is
            left out.
        lr_folder: Twins in low resolution, laid out as the folder is.
        stills: Every picture is a clip of its own, over which `prepare` moves a camera.

    Raises:
        InputError: No clips, or a list names what is not there.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder of clips.")
    root = next((folder / n for n in ("sequences", "GT", "HR") if (folder / n).is_dir()), folder)
    found = _named(_files(root, stills))
    if not found and not stills:
        files = tuple(images.picture_files(root))
        found = {root.resolve().name: files} if files else {}
    if list_file is not None:
        found = _listed(found, root, list_file)
    if not found:
        raise InputError(f"{folder}: no videos and no folders of pictures in it.")
    rights, home = _rights(folder), folder.resolve()
    return [
        Source(
            name,
            paths,
            _twin(paths, root, lr_folder),
            rights.get(home / paths[0].relative_to(folder), "unknown"),
        )
        for name, paths in found.items()
    ]


def _files(root: Path, stills: bool) -> Iterator[tuple[str, str, tuple[Path, ...]]]:
    """Each clip below a folder: its short name, its whole one, and its files."""
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if any(part.startswith(".") for part in inside.parts):
            continue
        wanted = video.IMAGE_SUFFIXES if stills else video.VIDEO_SUFFIXES
        if path.suffix.lower() in wanted and path.is_file():
            yield inside.with_suffix("").as_posix(), inside.as_posix(), (path,)
        elif path.is_dir() and not stills:
            files = tuple(images.picture_files(path))
            if files:
                truth = path.name.lower() in TRUTH and path.parent != root
                short = inside.parent if truth else inside
                yield short.as_posix(), inside.as_posix(), files


def _named(
    files: Iterable[tuple[str, str, tuple[Path, ...]]],
) -> dict[str, tuple[Path, ...]]:
    """Clips by their short names; by the whole ones where two would share a name."""
    clips = list(files)
    used = Counter(short for short, _, _ in clips)
    used.update(whole for short, whole, _ in clips if whole != short)
    return {short if used[short] == 1 else whole: paths for short, whole, paths in clips}


def _rights(folder: Path) -> dict[Path, str]:
    """What a manifest in the folder or in one around it says of files, which are absolute."""
    home = folder.resolve()
    rights: dict[Path, str] = {}
    for place in reversed((home, *home.parents)):  # what is said nearest to a file holds
        for manifest in (place / "MANIFEST.csv", place / "manifest.csv"):
            if manifest.is_file():
                try:
                    with manifest.open(newline="", errors="replace") as file:
                        rows = list(csv.DictReader(file))
                except (OSError, csv.Error) as e:
                    raise InputError(f"{manifest}: cannot be read ({e}).") from e
                rights |= {
                    place / row["file"]: row["rights"]
                    for row in rows
                    if row.get("file") and row.get("rights") not in (None, "", "unknown")
                }
    return rights


def read_list(list_file: Path) -> list[str]:
    """The names in a list, one a line; what follows a # is a comment.

    Raises:
        InputError: It cannot be read, or names nothing.
    """
    try:
        text = list_file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{list_file}: not a readable list.") from e
    names = [name for line in text.splitlines() if (name := line.split("#")[0].strip())]
    if not names:
        raise InputError(f"{list_file}: the list is empty.")
    return names


def _listed(
    found: dict[str, tuple[Path, ...]], root: Path, list_file: Path
) -> dict[str, tuple[Path, ...]]:
    """What a list names of what was found: clips, or single frames of them."""
    chosen: dict[str, list[Path]] = {}
    missing = []
    for line in read_list(list_file):
        path = root / line
        name = Path(line).as_posix()
        if name not in found and path.is_file():
            name = Path(line).with_suffix("").as_posix()
        if name in found:
            chosen[name] = list(found[name])
            continue
        parent = Path(line).parent
        owners = (parent.as_posix(), parent.parent.as_posix())
        owner = next((n for n in owners if n in found), None)
        if owner is not None and path in found[owner]:
            chosen.setdefault(owner, []).append(path)
        else:
            missing.append(line)
    if missing:
        raise InputError(f"{list_file} names what is not in {root}: {_first(missing)}.")
    return {name: tuple(paths) for name, paths in chosen.items()}


def _first(names: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _twin(paths: tuple[Path, ...], root: Path, lr_folder: Path | None) -> tuple[Path, ...]:
    if lr_folder is None:
        return ()
    twins = tuple(lr_folder / path.relative_to(root) for path in paths)
    missing = [path for path in twins if not path.is_file()]
    if missing:
        raise InputError(f"{missing[0]}: missing, the low-resolution twin of {paths[0]}.")
    return twins


def allowed(clips: Iterable[Rated]) -> tuple[list[Rated], dict[str, int]]:
    """The clips that weights for every use may be trained on, and how many there are of each
    `rights`: noncommercial ones are left out."""
    kept = [c for c in clips if c.rights != "noncommercial"]
    return kept, dict(Counter(c.rights for c in kept))


def split(
    names: Sequence[str], seed: int = 123, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> dict[str, list[str]]:
    """Clips dealt to "train", "val" and "test" by a seed, whole; each part is in order.

    The parts depend on the names and the seed alone. A share above 0 gets at least one clip.

    Raises:
        UsageError: There are fewer clips than parts, or the shares are none.
    """
    if not all(share >= 0 for share in shares) or not 0 < sum(shares) < math.inf:
        given = "/".join(f"{share:g}" for share in shares)
        raise UsageError(
            f"Shares of {given}: give three numbers of 0 or more, not all of them 0, such as "
            "80/10/10."
        )
    wanted = [share > 0 for share in shares]
    if len(names) < sum(wanted):
        raise UsageError(
            f"{len(names)} clips cannot be split into {sum(wanted)} parts; give more clips, or "
            "lists of your own."
        )
    order = [sorted(names)[k] for k in np.random.default_rng(seed).permutation(len(names))]
    ends = np.rint(np.cumsum(shares) / sum(shares) * len(names)).astype(int)
    counts = np.diff(np.concatenate([[0], ends]))
    for part in range(3):
        if wanted[part] and counts[part] == 0:
            counts[part] += 1
            counts[int(np.argmax(counts))] -= 1
    parts, begin = {}, 0
    for key, count in zip(("train", "val", "test"), counts, strict=True):
        parts[key] = sorted(order[begin : begin + int(count)])
        begin += int(count)
    return parts


# The store -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """One clip, (T, H, W, 3) high-resolution and (T, H / scale, W / scale, 3) low."""

    name: str
    hr: Frames
    lr: Frames


@dataclass(frozen=True)
class Entry:
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
class Store:
    """A folder of decoded clips and its manifest."""

    folder: Path
    entries: tuple[Entry, ...] = field(repr=False)

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

    def only(self, names: Iterable[str]) -> Store:
        """The same store with these clips alone.

        Raises:
            InputError: It has no clip of such a name.
        """
        wanted = dict.fromkeys(names)
        there = set(self.names)
        missing = [name for name in wanted if name not in there]
        if missing:
            near = did_you_mean(missing[0], self.names)
            raise InputError(f"{self.folder} has no clip called {_first(missing)}.{near}")
        return Store(self.folder, tuple(e for e in self.entries if e.name in wanted))

    def frames(self, entry: Entry) -> Frames:
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
        self, entry: Entry, hr: Frames, scale: int, name: str, seed: int, max_frames: int | None
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
    sources: Sequence[Source],
    folder: Path,
    max_frames: int | None = None,
    seed: int = 0,
    tell: Tell | None = None,
    height: int | None = None,
) -> Store:
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
        entries: list[Entry] = []
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
        return Store(folder, tuple(entries)).only(s.name for s in sources)


def _rest(known: dict[str, Entry], entries: list[Entry], *more: Entry) -> list[Entry]:
    have = {e.name for e in (*entries, *more)}
    return [e for name, e in known.items() if name not in have]


def open_store(folder: Path) -> Store:
    """A store that `prepare` made.

    Raises:
        InputError: It is none.
    """
    try:
        content = json.loads(_manifest(folder).read_text())
        if content["format"] != FORMAT:
            raise ValueError(content["format"])
        return Store(folder, tuple(Entry(**entry) for entry in content["clips"]))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(
            f"{folder}: not a store of clips; make one with `sharpreel data prepare`."
        ) from e


def is_store(folder: Path) -> bool:
    return _manifest(folder).is_file()


def _manifest(folder: Path) -> Path:
    return folder / "manifest.json"


def _write_manifest(folder: Path, entries: list[Entry]) -> None:
    content = {"format": FORMAT, "clips": [asdict(entry) for entry in entries]}
    try:
        journal.write_atomically(_manifest(folder), json.dumps(content, indent=1))
    except OSError as e:
        raise write_error(folder, e) from e


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder, made when it is not there; who else wants to write to it waits."""
    lock = Lock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as e:
        raise write_error(folder, e) from e
    try:
        yield
    finally:
        lock.release()


def _free_file(name: str, known: Iterable[Entry]) -> str:
    """A clip's file, which no other clip has, even where A and a are one name."""
    plain = re.sub(r"[^\w.-]+", "_", name)
    taken = {file.casefold() for e in known if e.name != name for file in (e.file, e.lr_file)}
    if not taken.isdisjoint({f"{plain}.npy".casefold(), _given(f"{plain}.npy").casefold()}):
        plain += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain}.npy"


def _given(file: str) -> str:
    return f"given-{file}"


def _store_clip(
    source: Source, folder: Path, file: str, max_frames: int | None, seed: int, height: int | None
) -> Entry:
    if len(source.paths) == 1 and not source.is_video:
        frames = pan(read_pictures(source.paths)[0], max_frames or 20, (seed, *file.encode()))
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
    return Entry(
        source.name, file, frames_count, height, width, digest, source.rights,
        str(source.paths[0]), lr_file, origin_of(source),
    )  # fmt: skip


def origin_of(source: Source) -> str:
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
    if paths[0].suffix.lower() in video.VIDEO_SUFFIXES:
        reader = video.VideoReader(video.probe(paths[0]))
        for k, frame in enumerate(reader):
            if k == max_frames:
                return
            yield _bytes(frame.pixels)
        return
    for path in paths[:max_frames]:
        yield read_pictures([path])[0]


def read_pictures(paths: Iterable[Path]) -> list[Frames]:
    """PNG or JPEG files as RGB bytes (H, W, 3)."""
    return [_bytes(images.read_rgb(path)) for path in paths]


def _bytes(pixels: ops.Frame) -> Frames:
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
        hr = video.read_frames(path, max_frames)
        clips.append(Clip(path.stem, *degrade.degrade(hr, scale, degradation)))
    return clips


def middle(clip: Clip, scale: int, frames: int, patch: int) -> Clip:
    """The first frames of a clip, cut to their middle `patch` lr pixels a side (0: uncut)."""
    _, h, w, _ = clip.lr.shape
    high, wide = (min(side, patch or side) for side in (h, w))
    y, x = (h - high) // 2, (w - wide) // 2
    lr = clip.lr[:frames, y : y + high, x : x + wide]
    hr = clip.hr[:frames, y * scale : (y + high) * scale, x * scale : (x + wide) * scale]
    return Clip(clip.name, hr, lr)


# Batches ---------------------------------------------------------------------------------------


def sample_batch(
    clips: Sequence[Clip],
    scale: int,
    batch: int,
    clip_len: int,
    patch: int,
    seed: int,
    step: int,
    part: tuple[int, int] = (0, 1),
) -> tuple[Frames, Frames]:
    """Random crops with flips, quarter turns and time reversal, for one training step.

    Args:
        patch: Side of the crop in lr pixels.
        seed, step: Name the batch: the same pair gives the same bytes.
        part: (number of this process, how many there are): the share of the batch that is its.

    Returns:
        lr, (N, T, 3, patch, patch), and hr, (N, T, 3, scale * patch, scale * patch), uint8.
    """
    lrs, hrs = [], []
    for number in range(part[0], batch, part[1]):
        rng = np.random.default_rng((seed, step, number))
        clip = clips[int(rng.integers(len(clips)))]
        t, h, w, _ = clip.lr.shape
        first = rng.integers(max(t - clip_len, 0) + 1)
        y, x = rng.integers(h - patch + 1), rng.integers(w - patch + 1)
        # A clip that is too short goes on backwards from its last frame.
        times = first + np.arange(clip_len)
        times = np.abs((times + t - 1) % max(2 * t - 2, 1) - (t - 1))
        if rng.random() < 0.5:
            times = times[::-1]
        lr = clip.lr[times, y : y + patch, x : x + patch]
        hr = clip.hr[times, y * scale : (y + patch) * scale, x * scale : (x + patch) * scale]
        lr, hr = _turned(rng, lr, hr)
        lrs.append(lr.transpose(0, 3, 1, 2))
        hrs.append(hr.transpose(0, 3, 1, 2))
    return np.stack(lrs), np.stack(hrs)


def _turned(rng: np.random.Generator, *clips: Frames) -> list[Frames]:
    """The same flips and transposition of each clip (T, H, W, 3): all eight symmetries."""
    flip_y, flip_x, swap = rng.random(3) < 0.5
    step_y, step_x = (-1 if flip_y else 1), (-1 if flip_x else 1)
    turned = [clip[:, ::step_y, ::step_x] for clip in clips]
    return [clip.swapaxes(1, 2) for clip in turned] if swap else turned


def check_clips(clips: Sequence[Clip], patch: int) -> list[Clip]:
    """The clips that a patch fits into.

    Raises:
        UsageError: None.
    """
    kept = [c for c in clips if min(c.lr.shape[1:3]) >= patch]
    if not kept:
        sizes = ", ".join(sorted({f"{c.lr.shape[2]}x{c.lr.shape[1]}" for c in clips})[:3])
        raise UsageError(
            f"No clip is as large as a patch of {patch} pixels: reduced they are "
            f"{sizes or 'none at all'}. Choose a smaller patch, or larger videos."
        )
    return kept


# Bursts of scans -------------------------------------------------------------------------------


def noise_score(scan: ops.Frame) -> float:
    """How much a scan is streaked along its rows, about 0 for a clean one.

    mean(|d/dy| - |d/dx|) / 3 of Sobel slopes in [0, 1] units, as in yasue32/afm-denoise: scan-line
    noise makes neighbouring rows differ more than neighbouring columns.
    """
    grey = _grey(scan)
    up, mid, down = grey[:-2], grey[1:-1], grey[2:]
    dy = down - up
    dy = dy[:, :-2] + 2 * dy[:, 1:-1] + dy[:, 2:]
    dx = up + 2 * mid + down
    dx = dx[:, 2:] - dx[:, :-2]
    return float((np.abs(dy) - np.abs(dx)).mean() / 3)


def blur_score(scan: ops.Frame) -> float:
    """Variance of the Laplacian in 8-bit levels: low for a blurred scan, high for a noisy one."""
    grey = _grey(scan) * 255
    laplacian = (
        grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    )
    return float(laplacian.var())


def _grey(scan: ops.Frame) -> npt.NDArray[np.float32]:
    grey: npt.NDArray[np.float32] = scan.astype(np.float32).mean(axis=2) / np.iinfo(scan.dtype).max
    return grey


def choose_target(
    scans: Frames, max_noise: float = 0.02, blur: tuple[float, float] = (250, 1500)
) -> list[int]:
    """Scans of a burst in the order that training wants them: target, reference, the others.

    The target is the least noisy of the good ones (noise and sharpness within the bounds), the
    reference the least noisy after it; where fewer than two are good, the least noisy of all.
    """
    noise = [noise_score(scan) for scan in scans]
    good = [
        k for k, scan in enumerate(scans)
        if noise[k] < max_noise and blur[0] < blur_score(scan) < blur[1]
    ]  # fmt: skip
    best = sorted(good if len(good) > 1 else range(len(scans)), key=noise.__getitem__)[:2]
    return [*best, *(k for k in range(len(scans)) if k not in best)]


def sample_bursts(
    bursts: Sequence[Frames],
    batch: int,
    frames: int,
    patch: int,
    seed: int,
    step: int,
    part: tuple[int, int] = (0, 1),
    tries: int = 20,
) -> tuple[Frames, Frames]:
    """Crops of bursts of scans, each with the least noisy of its own as the target.

    Args:
        bursts: Each (T, H, W, 3), T scans of one place.
        frames: Scans in a window; the reference stands in its middle.
        tries: Crops that are looked at for one whose target is good.

    Returns:
        lr, (N, frames, 1, patch, patch), and hr, (N, 1, 1, patch, patch), grey, uint8.
    """
    lrs, hrs = [], []
    for number in range(part[0], batch, part[1]):
        rng = np.random.default_rng((seed, step, number))
        crop: Frames | None = None
        for _ in range(tries):
            burst = bursts[int(rng.integers(len(bursts)))]
            _, h, w, _ = burst.shape
            y, x = rng.integers(h - patch + 1), rng.integers(w - patch + 1)
            crop = np.asarray(burst[:, y : y + patch, x : x + patch])
            order = choose_target(crop)
            if noise_score(crop[order[0]]) < 0.02:
                break
        assert crop is not None
        others = [order[2 + k] for k in rng.permutation(len(order) - 2)]
        others = (others or [order[1]]) * frames  # a small burst repeats its scans
        window = others[: frames - 1]
        window.insert(frames // 2, order[1])
        flip_y, flip_x = (int(f) * -2 + 1 for f in rng.integers(0, 2, 2))
        gamma = rng.uniform(0.8, 1.1)
        turned = crop[:, ::flip_y, ::flip_x].mean(axis=3, keepdims=True) / 255
        levels = np.rint(turned**gamma * 255).astype(np.uint8).transpose(0, 3, 1, 2)
        lrs.append(levels[window])
        hrs.append(levels[order[:1]])
    return np.stack(lrs), np.stack(hrs)
