"""Files from the internet: gone on with after a break, checked, and named only when whole.

A file that was broken off stays beside its target as `<name>.part`, and the next call asks the
server for the rest of it. Where nobody published a file's SHA-256, the sum of the first download is
written to `<name>.sha256` and holds from then on.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from sharpreel._version import __version__
from sharpreel.errors import FetchError, write_error

Tell = Callable[[int, int | None], None]  # bytes so far, bytes in all when the server says
CHUNK = 1 << 20
TIMEOUT_SECONDS = 30
PAUSES = (1, 4)  # seconds, before another try after nothing came


def cache_folder() -> Path:
    """Where downloads are kept: $SHARPREEL_CACHE, else `sharpreel` in the user's cache folder."""
    if own := os.environ.get("SHARPREEL_CACHE"):
        return Path(own).expanduser()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "sharpreel" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sharpreel"


def is_offline() -> bool:
    """Is $SHARPREEL_OFFLINE set to anything but 0?"""
    return os.environ.get("SHARPREEL_OFFLINE", "0") not in ("", "0")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path, sha256: str, found: str) -> None:
    """Raise FetchError unless a downloaded file is the one that was published, or came first.

    Args:
        sha256: All or the first digits of its sum; "": not published, and the sum that stands
            beside the file counts.
        found: The file's sum.
    """
    pin = _pin(path)
    wanted = sha256 or (pin.read_text().split()[0] if pin.is_file() else found)
    if not found.startswith(wanted):
        digits = len(wanted[:16])
        source = "published" if sha256 else f"its first download's, in {pin.name}"
        raise FetchError(
            f"{path}: its SHA-256 begins with {found[:digits]}, not with {wanted[:16]} ({source}). "
            "Delete it to download it again."
        )


def _pin(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def download(url: str, target: Path, sha256: str = "", tell: Tell | None = None) -> None:
    """Bring a file, unless it is there; see the top of this file.

    Args:
        sha256: All or the first digits of its sum; "" when nobody published it.
        tell: Called now and then with the bytes so far and in all.

    Raises:
        FetchError: It cannot be brought, or is not the file that was published.
        DiskFullError, UsageError: It cannot be written.
    """
    if target.is_file():
        return
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        went_on = part.is_file()
        _bring(url, part, sha256, tell)
        digest = sha256_of(part)
        _mark(part).unlink(missing_ok=True)
        if not digest.startswith(sha256):
            part.unlink()
            if went_on:  # its beginning was of another file: once more, all of it
                download(url, target, sha256, tell)
                return
            raise FetchError(
                f"{url}: what came is not the file that was published: its SHA-256 begins with "
                f"{digest[: len(sha256[:16])]}, not with {sha256[:16]}. Nothing was kept."
            )
        if not sha256:
            _pin(target).write_text(f"{digest}  {target.name}\n")
        os.replace(part, target)
    except OSError as e:
        raise write_error(target, e) from e


def _mark(part: Path) -> Path:
    """Holds the server's name for the version of the file that was begun."""
    return part.with_name(part.name + ".etag")


def _bring(url: str, part: Path, sha256: str, tell: Tell | None) -> None:
    """Fill `part`, going on after breaks for as long as something still comes."""
    tries = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            _bring_rest(url, part, sha256, tell)
            return
        except urllib.error.HTTPError as e:
            if e.code == 416 and before:  # there is no rest
                return
            if e.code < 500 or tries == len(PAUSES):
                raise FetchError(f"{url}: the server answers {e.code} {e.reason}.") from e
        except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ConnectionError,
                TimeoutError) as e:  # fmt: skip
            if part.is_file() and part.stat().st_size > before:
                tries = 0
            if tries == len(PAUSES):
                raise FetchError(
                    f"{url}: cannot be downloaded ({getattr(e, 'reason', None) or e}). What has "
                    "come is kept, and the same command goes on; or put the file to "
                    f"{part.with_suffix('')} yourself."
                ) from e
        time.sleep(PAUSES[tries])
        tries += 1


def _bring_rest(url: str, part: Path, sha256: str, tell: Tell | None) -> None:
    """Append to `part` what is missing; begin anew where the server cannot go on."""
    begun = part.stat().st_size if part.is_file() else 0
    mark = _mark(part)
    headers = {"User-Agent": f"sharpreel/{__version__}"}
    etag = mark.read_text() if mark.is_file() else ""
    if begun and (etag or sha256):
        headers["Range"] = f"bytes={begun}-"
        if etag:
            headers["If-Range"] = etag
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        begun = begun if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else begun + int(length)
        new = answer.headers.get("ETag", "")
        if new and not new.startswith("W/"):
            mark.write_text(new)
        with part.open("ab" if begun else "wb") as file:
            done = begun
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if tell is not None:
                    tell(done, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def cached(
    name: str, url: str, sha256: str = "", tell: Tell | None = None, offline: bool = False
) -> Path:
    """The file of a URL in the cache, downloaded when it is not there.

    Args:
        name: Its file name in the cache.
        offline: Do not download; $SHARPREEL_OFFLINE means the same.

    Raises:
        FetchError: As `download`; or it is not there and nothing may be downloaded.
    """
    target = cache_folder() / name
    if not target.is_file() and (offline or is_offline()):
        raise FetchError(
            f"{target}: not there, and nothing may be downloaded (offline). Bring it once from "
            f"{url} and put it there under this name."
        )
    download(url, target, sha256, tell)
    return target
