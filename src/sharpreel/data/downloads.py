"""Download published data sets for training and evaluation.

`fetch_dataset` downloads the archives of a row of DATASETS, unpacks them and marks each finished
archive by a file `<archive>.done`; a call that was interrupted resumes both. Data sets that are
available only through a form or a file sharer's page have a `note` instead of URLs.

The URLs are the publishers' own; that of Vid4 is from PaddleGAN's documentation. Where no SHA-256
is published, the one of the first download is pinned, as in `system.download`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from sharpreel.errors import DiskFullError, FetchError, UsageError, write_error
from sharpreel.system import download

Layout = Literal["vimeo90k", "reds", "folders", "videos"]
ProgressCallback = Callable[[str, int, int | None], None]  # action, bytes so far, bytes in total
CHUNK = 1 << 20
REPORT_BYTES = 1 << 24  # between two reports about an archive of many small files
GB = 10**9


@dataclass(frozen=True)
class File:
    """One archive of a data set.

    Attributes:
        sha256: All or the first digits; "" if it is not published.
        size: Approximately, in bytes; images take about as much unpacked.
    """

    url: str
    sha256: str = ""
    size: int = 0

    @property
    def name(self) -> str:
        return unquote(PurePosixPath(urlsplit(self.url).path).name)


@dataclass(frozen=True)
class Part:
    """A part of a data set, such as its test set; paths start at `fetch_dataset`'s result.

    Attributes:
        folder: Of the clips.
        lr_folder: Of their low-resolution versions, 4x bicubic; "": none.
        list_file: Names of the clips of this part; "": all.
    """

    folder: str = "."
    lr_folder: str = ""
    list_file: str = ""


@dataclass(frozen=True)
class Dataset:
    """A data set as its publisher describes it.

    Attributes:
        licence: As the publisher states it.
        page: URL of its description.
        layout: "vimeo90k" (sequences/00001/0001/im1.png), "reds" (000/00000000.png), "folders" (of
            images, one for each clip) or "videos".
        size_gb: Of the archives, in GB (10**9 bytes); unpacked it takes as much again.
        files: Empty where there is no reliable URL; `note` then explains what to do.
        root: Top folder inside the archives; "" for none.
        parts: By their purpose.
    """

    name: str
    title: str
    licence: str
    page: str
    layout: Layout
    size_gb: float
    files: tuple[File, ...] = ()
    note: str = ""
    root: str = ""
    parts: tuple[tuple[str, Part], ...] = ()


TOFLOW = "http://toflow.csail.mit.edu"
TOFU = "http://data.csail.mit.edu/tofu"
VIMEO_LICENCE = "non-commercial use only (its readme)"
REDS_PAGE = "https://seungjunnah.github.io/Datasets/reds.html"
REDS_FILES = "https://huggingface.co/datasets/snah/REDS/resolve/main"  # its author's
REDS_LICENCE = "CC BY 4.0"
REDS_VAL = (
    File(f"{REDS_FILES}/val_sharp.zip", size=4_273_865_704),
    File(f"{REDS_FILES}/val_sharp_bicubic.zip", size=330_490_885),
)
REDS_TRAIN = (
    File(
        f"{REDS_FILES}/train_sharp.zip",
        "620294c1c3f23ed26c5ea228633770469c0b28e57d31eb41dc77deb401c6681b",
        34_261_573_976,
    ),
    File(f"{REDS_FILES}/train_sharp_bicubic.zip", size=2_652_551_733),
)
REDS_VAL_PART = Part("val/val_sharp", "val/val_sharp_bicubic/X4")
REDS_TRAIN_PART = Part("train/train_sharp", "train/train_sharp_bicubic/X4")

ROWS = (
    Dataset(
        name="vimeo90k",
        title="Vimeo-90K septuplets: 91,701 clips of 7 frames, 448x256",
        licence=VIMEO_LICENCE,
        page=TOFLOW,
        layout="vimeo90k",
        size_gb=82,
        files=(File(f"{TOFU}/dataset/vimeo_septuplet.zip", size=82 * GB),),
        root="vimeo_septuplet",
        parts=(
            ("train", Part(list_file="sep_trainlist.txt")),
            ("test", Part(list_file="sep_testlist.txt")),
        ),
    ),
    Dataset(
        name="vimeo90k-test",
        title="Vimeo-90K, the 7,824 septuplets of its test set",
        licence=VIMEO_LICENCE,
        page=TOFLOW,
        layout="vimeo90k",
        size_gb=15,
        files=(File(f"{TOFU}/testset/vimeo_test_clean.zip", size=15 * GB),),
        root="vimeo_test_clean",
        parts=(("test", Part()),),
    ),
    Dataset(
        name="reds",
        title="REDS: 240 + 30 clips of 100 frames, 1280x720, with their 4x bicubic LR versions",
        licence=REDS_LICENCE,
        page=REDS_PAGE,
        layout="reds",
        size_gb=41.5,
        files=(*REDS_TRAIN, *REDS_VAL),
        parts=(("train", REDS_TRAIN_PART), ("val", REDS_VAL_PART)),
    ),
    Dataset(
        name="reds-val",
        title="REDS, its 30 validation clips alone",
        licence=REDS_LICENCE,
        page=REDS_PAGE,
        layout="reds",
        size_gb=4.6,
        files=REDS_VAL,
        parts=(("val", REDS_VAL_PART),),
    ),
    Dataset(
        name="vid4",
        title="Vid4: calendar, city, foliage and walk; 171 frames, up to 720x576",
        licence="not stated",
        page="https://people.csail.mit.edu/celiu/CVPR2011/default.html",
        layout="folders",
        size_gb=0.2,
        files=(File("https://paddlegan.bj.bcebos.com/datasets/Vid4.zip", size=GB // 5),),
        root="Vid4",
        parts=(("test", Part()),),
    ),
    Dataset(
        name="inter4k",
        title="Inter4K: 1,000 videos of 5 seconds, 3840x2160, 60 frames a second",
        licence="CC BY-NC-SA 4.0",
        page="https://alexandrosstergiou.github.io/datasets/Inter4K/index.html",
        layout="videos",
        size_gb=15,
        note="Its URL, https://tinyurl.com/inter4KUHD, leads to Google Drive, which needs a "
        "browser. Unpack the archive and pass the folder of its videos.",
        root="Inter4K",
        parts=(("train", Part("60fps/UHD")),),
    ),
)
DATASETS: dict[str, Dataset] = {row.name: row for row in ROWS}


def dataset_named(name: str) -> Dataset:
    """Return a row of DATASETS.

    Raises:
        UsageError: There is no data set of this name.
    """
    if name not in DATASETS:
        raise UsageError(f"{name}: no such data set; choose one of {', '.join(DATASETS)}.")
    return DATASETS[name]


def fetch_dataset(
    name: str,
    folder: Path,
    on_progress: ProgressCallback | None = None,
    keep_archives: bool = False,
) -> Path:
    """Download and unpack a data set, and return the folder that the paths of its `parts` start at.

    Args:
        name: A key of DATASETS.
        folder: For this data set only; created if missing.
        on_progress: Called now and then with the current action, bytes so far and in total.
        keep_archives: Otherwise an archive is deleted after it is unpacked.

    Raises:
        UsageError: No such data set, or it has to be downloaded by hand; the folder cannot be
            written.
        FetchError: An archive cannot be downloaded, has another checksum than the published one,
            is damaged, or has members outside the folder.
        DiskFullError: There is not enough space; checked before the download.
    """
    row = dataset_named(name)
    if not row.files:
        raise UsageError(f"{name} cannot be downloaded automatically. {row.note} See {row.page}.")
    todo = [file for file in row.files if not _mark(folder, file).is_file()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_space(folder, _estimate(folder, todo, keep_archives), row.name)
        for file in todo:
            archive = folder / file.name
            _download(file, archive, on_progress)
            unpack(archive, folder, on_progress)
            if hasattr(os, "sync"):
                os.sync()  # the mark promises that everything is on the disk
            _mark(folder, file).write_text(f"{file.url}\n")
            if not keep_archives:
                archive.unlink()
                archive.with_name(archive.name + ".sha256").unlink(missing_ok=True)
    except OSError as e:
        raise write_error(folder / row.name, e) from e
    home = folder / row.root
    return home if home.is_dir() else folder


def _mark(folder: Path, file: File) -> Path:
    return folder / f"{file.name}.done"


def _download(file: File, archive: Path, on_progress: ProgressCallback | None) -> None:
    if not archive.is_file() and download.is_offline():
        raise FetchError(
            f"{archive}: missing, and downloads are disabled (offline). Download it once from "
            f"{file.url} and save it under this name."
        )

    def on_bytes(done: int, total: int | None) -> None:
        if on_progress is not None:
            on_progress(f"Downloading {file.name}", done, total)

    download.download(file.url, archive, file.sha256, on_bytes)


def _estimate(folder: Path, todo: list[File], keep_archives: bool) -> int:
    """Bytes that must be free for archives that are still missing, and for their contents."""
    most = taken = 0
    for file in todo:
        archive = folder / file.name
        if archive.is_file():
            continue  # `unpack` knows exactly
        part = archive.with_name(archive.name + ".part")
        begun = part.stat().st_size if part.is_file() else 0
        taken += max(file.size - begun, 0) + file.size
        most = max(most, taken)
        if not keep_archives:
            taken -= file.size
    return most


def _check_space(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFullError(
            f"{folder}: {what} needs {needed / GB:.1f} GB more, and {free / GB:.1f} GB are free. "
            "Free some space or choose another disk, and run the same command again."
        )


def unpack(archive: Path, folder: Path, on_progress: ProgressCallback | None = None) -> None:
    """Unpack a ZIP file into a folder; existing files of the right size are kept.

    A member is written under a temporary name, its CRC is checked, and then it is renamed. Nothing
    is written when a member is a link or its name leads outside the folder.

    Raises:
        FetchError: Not a ZIP file, damaged, or with such a member.
        DiskFullError: The missing members do not fit on the disk.
        UsageError: The folder cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [m for m in opened.infolist() if not _validated(archive, m).is_dir()]
            missing = [m for m in members if not _is_unpacked(folder / m.filename, m)]
            folder.mkdir(parents=True, exist_ok=True)
            _check_space(folder, sum(m.file_size for m in missing), archive.name)
            total = sum(m.file_size for m in members)
            done = reported = total - sum(m.file_size for m in missing)
            for member in _extracted(opened, archive, missing, folder):
                done += member.file_size
                if on_progress is not None and (
                    done - reported >= REPORT_BYTES or member is missing[-1]
                ):
                    reported = done
                    on_progress(f"Unpacking {archive.name}", done, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as e:
        raise FetchError(
            f"{archive}: is damaged, or not a ZIP file ({e}). Delete it and run the same command "
            "again: it will be downloaded again; files already extracted are kept."
        ) from e
    except OSError as e:
        raise write_error(folder / archive.name, e) from e


def _validated(archive: Path, member: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """The member, if it is a file or folder inside the target and not encrypted."""
    name = member.filename
    parts = PurePosixPath(name).parts
    kind = stat.S_IFMT(member.external_attr >> 16)
    if not parts or ".." in parts or re.match(r"/|[A-Za-z]:", name) or "\\" in name:
        raise _outside(archive, member)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise FetchError(f"{archive}: {name!r} in it is a link or device; nothing was unpacked.")
    if member.flag_bits & 1:
        raise FetchError(f"{archive}: {name!r} in it is encrypted; nothing was unpacked.")
    return member


def _outside(archive: Path, member: zipfile.ZipInfo) -> FetchError:
    return FetchError(
        f"{archive}: {member.filename!r} in it would be written outside the folder; unpacking "
        "stopped. It is not the published archive, or was tampered with: delete it."
    )


def _is_unpacked(target: Path, member: zipfile.ZipInfo) -> bool:
    return target.is_file() and target.stat().st_size == member.file_size


def _extracted(
    opened: zipfile.ZipFile, archive: Path, members: list[zipfile.ZipInfo], folder: Path
) -> Iterator[zipfile.ZipInfo]:
    """Write members to the folder and yield each one that is finished.

    Raises:
        FetchError: A link that is in the folder already leads outside it.
    """
    root, safe = folder.resolve(), set[Path]()
    for member in members:
        target = folder / member.filename
        if target.parent not in safe:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.parent.resolve().is_relative_to(root):
                raise _outside(archive, member)
            safe.add(target.parent)
        _write(opened, member, target)
        yield member


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    part = target.with_name(target.name + ".part")
    try:
        with opened.open(member) as source, part.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
        os.replace(part, target)
    except OSError as e:
        raise write_error(target, e) from e
    finally:
        with contextlib.suppress(OSError):  # already renamed if nothing failed
            part.unlink()
