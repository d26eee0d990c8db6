"""Find published test sets by name on the disk, with the clips and the protocol that papers use.

A set is searched in $SHARPREEL_DATA, then in `data` of the cache folder, in the folders that
`sharpreel data fetch` and the publishers' archives create. Nothing is downloaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sharpreel.errors import InputError
from sharpreel.system import download


@dataclass(frozen=True)
class PublishedSet:
    """A published test set.

    Attributes:
        folders: Where its clips may be; the first that exists is used.
        protocol: Of the published tables.
        clips: Names of the clips that count; empty: all.
        list_file: Name of a file in the folder that lists the clips that count, if it exists.
        fetched: Its name in `downloads.DATASETS`; "": it has to be downloaded by hand.
    """

    folders: tuple[str, ...]
    protocol: str
    clips: tuple[str, ...] = ()
    list_file: str = ""
    fetched: str = ""


TEST_SETS = {
    "vid4": PublishedSet(("vid4/Vid4", "vid4", "Vid4"), "P1", fetched="vid4"),
    # Four clips of REDS's training set, as in EDVR and all later papers.
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
class LocalTestSet:
    """A test set that was found on the disk; see `PublishedSet`."""

    folder: Path
    clips: tuple[str, ...]
    list_file: Path | None
    protocol: str


def search_folders() -> list[Path]:
    """The folders that test sets are searched in."""
    own = os.environ.get("SHARPREEL_DATA")
    cache = download.cache_folder() / "data"
    return [Path(own).expanduser(), cache] if own else [cache]


def find(name: str) -> LocalTestSet | None:
    """Find the test set of this name; None if it is not the name of a set, or is a path.

    Raises:
        InputError: The set is not on the disk; the message states how to get it.
    """
    if name not in TEST_SETS or Path(name).exists():
        return None
    row = TEST_SETS[name]
    roots = search_folders()
    for folder in (root / inside for root in roots for inside in row.folders):
        if folder.is_dir():
            list_file = folder / row.list_file
            return LocalTestSet(
                folder, row.clips, list_file if list_file.is_file() else None, row.protocol
            )
    if row.fetched:
        how = f"`sharpreel data fetch {row.fetched} -o {roots[0] / row.fetched}` downloads it"
    else:
        how = f"Download it by hand and put its clips into {roots[0] / row.folders[0]}"
    where = " and ".join(map(str, roots))
    raise InputError(
        f"{name}: not in {where}. {how}; or set SHARPREEL_DATA to the folder that holds it, or "
        "pass its path."
    )
