"""Files, lists and addresses of videos; addresses are downloaded with yt-dlp."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from sharpreel.data.manifest import read_rows
from sharpreel.errors import InputError, UsageError
from sharpreel.media.probe import VIDEO_SUFFIXES

YT_DLP = (
    *("--ignore-config", "--no-playlist", "--playlist-items", "1", "--quiet", "--no-progress"),
    *("-f", "bv*/b", "--restrict-filenames", "-o", "%(id)s.%(ext)s"),
)


def plain_error(error: InputError, work: Path, source: str) -> str:
    """What an error says, with the address in place of the file that was brought from it."""
    return re.sub(rf"{re.escape(str(work))}[^:]*", lambda _: source, str(error))


# --- sources -------------------------------------------------------------------------------------


def is_address(source: str | Path) -> bool:
    return str(source).startswith(("http://", "https://"))


def sources_of(folder_or_list: str | Path) -> list[str]:
    """The videos of a folder and those below it, or the lines of a list; else the thing itself.

    A list is a .txt file with a path or an address a line; relative paths begin at its folder,
    lines that begin with # are comments.

    Raises:
        InputError: There is nothing at this path, or no video in it.
    """
    if is_address(folder_or_list):
        return [str(folder_or_list)]
    path = Path(folder_or_list)
    if path.is_dir():
        found = [
            str(p)
            for p in sorted(path.rglob("*"))
            if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()
            and not any(part.startswith(".") for part in p.relative_to(path).parts)
        ]  # fmt: skip
    elif path.suffix.lower() == ".txt":
        found = [
            line if is_address(line) else str(path.parent / line)
            for line in map(str.strip, read_rows(path).splitlines())
            if line and not line.startswith("#")
        ]
    elif path.exists():
        return [str(path)]
    else:
        raise InputError(f"{path}: no such file or folder.")
    if not found:
        raise InputError(f"{path}: names no video.")
    return found


def expand_playlist(sources: Iterable[str | Path]) -> list[str]:
    """Each source once, absolute; folders and lists as what is in them."""
    found: dict[str, None] = {}
    for given in sources:
        path = Path(given)
        several = not is_address(given) and (path.is_dir() or path.suffix.lower() == ".txt")
        for source in sources_of(given) if several else [str(given)]:
            found[source if is_address(source) else os.path.abspath(source)] = None
    return list(found)


def yt_dlp_command() -> list[str]:
    """The command that runs yt-dlp here.

    Raises:
        UsageError: It is not installed.
    """
    if script := shutil.which("yt-dlp"):
        return [os.path.abspath(script)]
    if find_spec("yt_dlp") is not None:
        return [sys.executable, "-m", "yt_dlp"]
    raise UsageError(
        "Videos at addresses are brought by yt-dlp, which is not installed: pip install yt-dlp."
    )


def download_address(address: str, command: list[str], folder: Path) -> Path:
    """The video of an address, in the folder; of a playlist, the first.

    Raises:
        InputError: yt-dlp does not bring it.
    """
    try:
        done = subprocess.run(
            [*command, *YT_DLP, "--", address],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as e:
        raise InputError(f"{address}: yt-dlp cannot be run ({e.strerror or e}).") from e
    files = [p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES]
    if done.returncode or not files:
        words = done.stderr.strip().splitlines() or ["it says nothing"]
        raise InputError(f"{address}: yt-dlp does not bring it ({words[-1]}).")
    return max(files, key=lambda p: p.stat().st_size)
