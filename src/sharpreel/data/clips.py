"""Find the clips of a folder in the layouts of common data sets, read their rights, split them.

Nothing is decoded here: a `ClipSource` holds the paths of a clip; `store.prepare` decodes it.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from sharpreel.errors import InputError, UsageError
from sharpreel.media import images
from sharpreel.media.probe import IMAGE_SUFFIXES, VIDEO_SUFFIXES


class _HasRights(Protocol):
    @property
    def rights(self) -> str: ...


Rated = TypeVar("Rated", bound=_HasRights)
HR_FOLDERS = ("truth", "gt", "hr")  # folders that hold a clip's frames and are not its name


@dataclass(frozen=True)
class ClipSource:
    """One clip before it is decoded.

    Attributes:
        name: Unique; with slashes, as in `00001/0001`. A video's name has no suffix, unless
            another clip of the folder would have the same name.
        paths: One video, or images in the order of time. A single image is a still.
        lr_paths: Its low-resolution version, where the publisher provides one.
        rights: From a manifest in the folder or above it, else "unknown".
    """

    name: str
    paths: tuple[Path, ...]
    lr_paths: tuple[Path, ...] = ()
    rights: str = "unknown"

    @property
    def is_video(self) -> bool:
        return self.paths[0].suffix.lower() in VIDEO_SUFFIXES


def find_clips(
    folder: Path,
    list_file: Path | None = None,
    lr_folder: Path | None = None,
    stills: bool = False,
) -> list[ClipSource]:
    """Return the clips below a folder, in any of the layouts that data sets have.

        Vimeo-90K   sequences/00001/0001/im1.png ...          a list names 00001/0001
        REDS        train_sharp/000/00000000.png ...          give that folder
        Vid4        calendar/001.png ...  or GT/calendar/...  a list may name single frames
        SPMCS       car05_001/truth/0001.png ...
        videos      any folder of video files, at any depth

    Args:
        list_file: Names of clips, folders, frames or videos, one per line; all others are
            skipped.
        lr_folder: Low-resolution versions, with the same layout as the folder.
        stills: Every image is a clip of its own, over which `prepare` moves a camera.

    Raises:
        InputError: There are no clips, or the list names something that does not exist.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder of clips.")
    root = next((folder / n for n in ("sequences", "GT", "HR") if (folder / n).is_dir()), folder)
    clips = _by_name(_files(root, stills))
    if not clips and not stills:
        files = tuple(images.image_files(root))
        clips = {root.resolve().name: files} if files else {}
    if list_file is not None:
        clips = _listed(clips, root, list_file)
    if not clips:
        raise InputError(f"{folder}: it contains no videos and no folders of images.")
    rights, home = _rights(folder), folder.resolve()
    return [
        ClipSource(
            name,
            paths,
            _lr_paths(paths, root, lr_folder),
            rights.get(home / paths[0].relative_to(folder), "unknown"),
        )
        for name, paths in clips.items()
    ]


def _files(root: Path, stills: bool) -> Iterator[tuple[str, str, tuple[Path, ...]]]:
    """Each clip below a folder: its short name, its full name, and its files."""
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if any(part.startswith(".") for part in inside.parts):
            continue
        suffixes = IMAGE_SUFFIXES if stills else VIDEO_SUFFIXES
        if path.suffix.lower() in suffixes and path.is_file():
            yield inside.with_suffix("").as_posix(), inside.as_posix(), (path,)
        elif path.is_dir() and not stills:
            files = tuple(images.image_files(path))
            if files:
                holds_hr = path.name.lower() in HR_FOLDERS and path.parent != root
                short = inside.parent if holds_hr else inside
                yield short.as_posix(), inside.as_posix(), files


def _by_name(
    files: Iterable[tuple[str, str, tuple[Path, ...]]],
) -> dict[str, tuple[Path, ...]]:
    """Clips by their short names; by the full ones where two would share a name."""
    clips = list(files)
    used = Counter(short for short, _, _ in clips)
    used.update(full for short, full, _ in clips if full != short)
    return {short if used[short] == 1 else full: paths for short, full, paths in clips}


def _rights(folder: Path) -> dict[Path, str]:
    """Rights by absolute path, from the manifests in the folder and in all above it."""
    home = folder.resolve()
    rights: dict[Path, str] = {}
    for parent in reversed((home, *home.parents)):  # the manifest nearest to a file wins
        for manifest in (parent / "MANIFEST.csv", parent / "manifest.csv"):
            if manifest.is_file():
                rights |= _rights_in(manifest)
    return rights


def _rights_in(manifest: Path) -> dict[Path, str]:
    """Rights by absolute path in one manifest; rows without known rights are skipped."""
    try:
        with manifest.open(newline="", errors="replace") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error) as e:
        raise InputError(f"{manifest}: cannot be read ({e}).") from e
    return {
        manifest.parent / row["file"]: row["rights"]
        for row in rows
        if row.get("file") and row.get("rights") not in (None, "", "unknown")
    }


def read_list(list_file: Path) -> list[str]:
    """Return the names in a list file, one per line; a # starts a comment.

    Raises:
        InputError: The file cannot be read, or is empty.
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
    clips: dict[str, tuple[Path, ...]], root: Path, list_file: Path
) -> dict[str, tuple[Path, ...]]:
    """The clips that a list names: complete ones, or single frames of them."""
    chosen: dict[str, list[Path]] = {}
    missing = []
    for line in read_list(list_file):
        path = root / line
        name = Path(line).as_posix()
        if name not in clips and path.is_file():
            name = Path(line).with_suffix("").as_posix()
        if name in clips:
            chosen[name] = list(clips[name])
            continue
        parent = Path(line).parent
        owners = (parent.as_posix(), parent.parent.as_posix())
        owner = next((n for n in owners if n in clips), None)
        if owner is not None and path in clips[owner]:
            chosen.setdefault(owner, []).append(path)
        else:
            missing.append(line)
    if missing:
        raise InputError(f"{list_file} names clips that are not in {root}: {first_names(missing)}.")
    return {name: tuple(paths) for name, paths in chosen.items()}


def first_names(names: Sequence[str]) -> str:
    """The first three names as text, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _lr_paths(paths: tuple[Path, ...], root: Path, lr_folder: Path | None) -> tuple[Path, ...]:
    if lr_folder is None:
        return ()
    lr_paths = tuple(lr_folder / path.relative_to(root) for path in paths)
    missing = [path for path in lr_paths if not path.is_file()]
    if missing:
        raise InputError(f"{missing[0]}: missing, the low-resolution version of {paths[0]}.")
    return lr_paths


def allowed(clips: Iterable[Rated]) -> tuple[list[Rated], dict[str, int]]:
    """Return the clips that weights for any use may be trained on, and a count by `rights`.

    Noncommercial clips are skipped.
    """
    kept = [c for c in clips if c.rights != "noncommercial"]
    return kept, dict(Counter(c.rights for c in kept))


def split(
    names: Sequence[str], seed: int = 123, shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> dict[str, list[str]]:
    """Divide clips at random into "train", "val" and "test"; each part is sorted by name.

    The parts depend on the names and the seed alone. A share above 0 gets at least one clip.

    Raises:
        UsageError: There are fewer clips than parts, or the shares are invalid.
    """
    if not all(share >= 0 for share in shares) or not 0 < sum(shares) < math.inf:
        given = "/".join(f"{share:g}" for share in shares)
        raise UsageError(
            f"shares={given}: give three numbers of 0 or more, not all of them 0, such as 80/10/10."
        )
    wanted = [share > 0 for share in shares]
    if len(names) < sum(wanted):
        raise UsageError(
            f"{len(names)} clips cannot be split into {sum(wanted)} parts; give more clips, or "
            "your own lists."
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
