"""Finds, lists and splits clips, and reads their rights."""

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


# Finding ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClipSource:
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
        return self.paths[0].suffix.lower() in VIDEO_SUFFIXES


def find_clips(
    folder: Path,
    list_file: Path | None = None,
    lr_folder: Path | None = None,
    stills: bool = False,
) -> list[ClipSource]:
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
        files = tuple(images.image_files(root))
        found = {root.resolve().name: files} if files else {}
    if list_file is not None:
        found = _listed(found, root, list_file)
    if not found:
        raise InputError(f"{folder}: no videos and no folders of pictures in it.")
    rights, home = _rights(folder), folder.resolve()
    return [
        ClipSource(
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
        wanted = IMAGE_SUFFIXES if stills else VIDEO_SUFFIXES
        if path.suffix.lower() in wanted and path.is_file():
            yield inside.with_suffix("").as_posix(), inside.as_posix(), (path,)
        elif path.is_dir() and not stills:
            files = tuple(images.image_files(path))
            if files:
                truth = path.name.lower() in HR_FOLDERS and path.parent != root
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
        raise InputError(f"{list_file} names what is not in {root}: {first_names(missing)}.")
    return {name: tuple(paths) for name, paths in chosen.items()}


def first_names(names: Sequence[str]) -> str:
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
