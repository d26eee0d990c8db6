"""Expand what a user names as sources of videos: files, folders, lists, and URLs.

URLs are downloaded with yt-dlp, which is a separate program.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from sharpreel.data.manifest import read_text
from sharpreel.errors import InputError, UsageError
from sharpreel.media.probe import VIDEO_SUFFIXES

YT_DLP = (
    *("--ignore-config", "--no-playlist", "--playlist-items", "1", "--quiet", "--no-progress"),
    *("-f", "bv*/b", "--restrict-filenames", "-o", "%(id)s.%(ext)s"),
)


def is_url(source: str | Path) -> bool:
    """Whether a source has to be downloaded."""
    return str(source).startswith(("http://", "https://"))


def sources_of(folder_or_list: str | Path) -> list[str]:
    """Return the videos in a folder and below it, or the lines of a list; else the source itself.

    A list is a .txt file with one path or URL per line; relative paths start at its folder, lines
    that begin with # are comments.

    Raises:
        InputError: The path does not exist, or there is no video in it.
    """
    path = Path(folder_or_list)
    if is_url(folder_or_list):
        return [str(folder_or_list)]
    if path.is_dir():
        sources = _videos_below(path)
    elif path.suffix.lower() == ".txt":
        sources = _lines_of(path)
    elif path.exists():
        return [str(path)]
    else:
        raise InputError(f"{path}: no such file or folder.")
    if not sources:
        raise InputError(f"{path}: no videos found.")
    return sources


def _videos_below(folder: Path) -> list[str]:
    return [
        str(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in VIDEO_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _lines_of(list_file: Path) -> list[str]:
    return [
        line if is_url(line) else str(list_file.parent / line)
        for line in map(str.strip, read_text(list_file).splitlines())
        if line and not line.startswith("#")
    ]


def expand_sources(sources: Iterable[str | Path]) -> list[str]:
    """Return each source once, paths absolute; folders and lists are replaced by their videos."""
    expanded: dict[str, None] = {}
    for given in sources:
        path = Path(given)
        several = not is_url(given) and (path.is_dir() or path.suffix.lower() == ".txt")
        for source in sources_of(given) if several else [str(given)]:
            expanded[source if is_url(source) else os.path.abspath(source)] = None
    return list(expanded)


def yt_dlp_command() -> list[str]:
    """Return the command line that starts yt-dlp on this machine.

    Raises:
        UsageError: yt-dlp is not installed.
    """
    if script := shutil.which("yt-dlp"):
        return [os.path.abspath(script)]
    if find_spec("yt_dlp") is not None:
        return [sys.executable, "-m", "yt_dlp"]
    raise UsageError(
        "Videos at URLs are downloaded by yt-dlp, which is not installed: pip install yt-dlp."
    )


def download_video(url: str, command: list[str], folder: Path) -> Path:
    """Download the video of a URL into a folder; of a playlist, the first.

    Args:
        command: See `yt_dlp_command`.
        folder: Empty, and deleted by the caller.

    Raises:
        InputError: yt-dlp could not download it.
    """
    try:
        done = subprocess.run(
            [*command, *YT_DLP, "--", url],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as e:
        raise InputError(f"{url}: yt-dlp cannot be run ({e.strerror or e}).") from e
    files = [p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES]
    if done.returncode or not files:
        lines = done.stderr.strip().splitlines() or ["without an error message"]
        raise InputError(f"{url}: yt-dlp could not download it ({lines[-1]}).")
    return max(files, key=lambda p: p.stat().st_size)


def message_with_source(error: InputError, work: Path, source: str) -> str:
    """The message of an error, with the source in place of its temporary file below `work`."""
    return re.sub(rf"{re.escape(str(work))}[^:]*", lambda _: source, str(error))
