"""Write the parts of a split as list files, which commands and `find_clips` take as `list_file`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sharpreel.data.clips import split
from sharpreel.data.store import clip_names
from sharpreel.errors import write_error


@dataclass(frozen=True)
class SplitPart:
    """One part of a split: "train", "val" or "test", its list file and the clips in it."""

    name: str
    path: Path
    clips: tuple[str, ...]


def write_split(
    folder: Path,
    output: Path,
    seed: int = 123,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> list[SplitPart]:
    """Split the clips of a folder or store and write train.txt, val.txt and test.txt.

    Args:
        folder: Clips as `find_clips` takes them, or a store.
        output: Folder of the lists, one name per line; created if missing.
        seed, shares: See `clips.split`.

    Raises:
        InputError: The folder contains no clips.
        UsageError: Invalid shares, fewer clips than parts, or `output` cannot be written.
    """
    parts = []
    for name, chosen in split(clip_names(folder), seed, shares).items():
        path = output / f"{name}.txt"
        try:
            output.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{clip}\n" for clip in chosen), encoding="utf-8")
        except OSError as e:
            raise write_error(path, e) from e
        parts.append(SplitPart(name, path, tuple(chosen)))
    return parts
