"""The sets that papers measure on, by name: where they lie, which clips count, which protocol.

A set is looked for in $SHARPREEL_DATA, then in `data` of the cache folder, in the folders where
`sharpreel data fetch` and the publishers' archives leave it. Nothing is downloaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sharpreel.errors import InputError
from sharpreel.system import download


@dataclass(frozen=True)
class PublishedSet:
    """A published set.

    Attributes:
        folders: Where its clips may lie, the first that is there counts.
        protocol: Of the tables that it is known from.
        clips: Those that count; empty: all.
        list_file: In the folder: the clips that count, where it is there.
        fetched: What `sharpreel data fetch` calls it; "": it has to be brought by hand.
    """

    folders: tuple[str, ...]
    protocol: str
    clips: tuple[str, ...] = ()
    list_file: str = ""
    fetched: str = ""


TEST_SETS = {
    "vid4": PublishedSet(("vid4/Vid4", "vid4", "Vid4"), "P1", fetched="vid4"),
    # Four clips of REDS's training set, as in EDVR and all that follow it.
    "reds4": PublishedSet(
        ("reds4", "REDS4", "reds/train/train_sharp", "REDS/train_sharp"),
        "P1-RGB",
        clips=("000", "011", "015", "020"),
        fetched="reds",
    ),
    "udm10": PublishedSet(("udm10", "UDM10"), "P1"),
    "spmcs": PublishedSet(("spmcs", "SPMCS"), "P1"),
    "vimeo90k-t": PublishedSet(
        (
            *("vimeo90k-t", "vimeo90k-test/vimeo_test_clean", "vimeo90k-test"),
            *("vimeo90k/vimeo_septuplet", "vimeo90k", "vimeo_septuplet"),
        ),
        "P1-Vimeo",
        list_file="sep_testlist.txt",
        fetched="vimeo90k-test",
    ),
}


@dataclass(frozen=True)
class Found:
    """A set that is there."""

    folder: Path
    clips: tuple[str, ...]
    list_file: Path | None
    protocol: str


def homes() -> list[Path]:
    """The folders that sets are looked for in."""
    own = os.environ.get("SHARPREEL_DATA")
    cache = download.cache_folder() / "data"
    return [Path(own).expanduser(), cache] if own else [cache]


def find(name: str) -> Found | None:
    """The set of this name; None when it names something else, or a path that is there.

    Raises:
        InputError: The set is not there; the message says how to bring it.
    """
    if name not in TEST_SETS or Path(name).exists():
        return None
    row = TEST_SETS[name]
    for home in homes():
        for folder in (home / inside for inside in row.folders):
            if folder.is_dir():
                listed = folder / row.list_file
                return Found(folder, row.clips, listed if listed.is_file() else None, row.protocol)
    first = homes()[0]
    if row.fetched:
        how = f"`sharpreel data fetch {row.fetched} -o {first / row.fetched}` brings it"
    else:
        how = f"Its publisher gives it by hand: put its clips into {first / row.folders[0]}"
    where = " and ".join(map(str, homes()))
    raise InputError(
        f"{name}: not in {where}. {how}; or say in SHARPREEL_DATA which folder holds it, or give "
        "its path."
    )
