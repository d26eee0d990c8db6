"""Downloads that resume after a break, are verified by SHA-256, and get their name when complete.

A partial file stays next to its target as `<name>.part`, and the next call asks the server for the
rest of it. Where nobody published a file's SHA-256, the checksum of the first download is written
to `<name>.sha256` and is required from then on.
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

ProgressCallback = Callable[[int, int | None], None]  # bytes so far, total bytes if known
CHUNK = 1 << 20
TIMEOUT_SECONDS = 30
PAUSES = (1, 4)  # seconds before each retry when nothing arrived
CONNECTION_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
)


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
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def validate_checksum(path: Path, sha256: str, actual: str) -> None:
    """Raise FetchError unless a downloaded file is the published one, or the first download's.

    Args:
        sha256: The published checksum or its first digits; "": not published, and the checksum
            that was recorded at the first download counts.
        actual: The file's checksum.
    """
    pin = _pin_file(path)
    expected = sha256 or (pin.read_text().split()[0] if pin.is_file() else actual)
    if not actual.startswith(expected):
        digits = len(expected[:16])
        source = "published" if sha256 else f"its first download's, in {pin.name}"
        raise FetchError(
            f"{path}: its SHA-256 begins with {actual[:digits]}, not with {expected[:16]} "
            f"({source}). Delete it to download it again."
        )


def download(
    url: str, target: Path, sha256: str = "", on_progress: ProgressCallback | None = None
) -> None:
    """Download a file unless it exists; resume a partial download (see the top of this file).

    Args:
        sha256: The checksum or its first digits; "" when nobody published it.
        on_progress: Called after each chunk with the bytes so far and in total.

    Raises:
        FetchError: The file cannot be downloaded, or its checksum is not the published one.
        DiskFullError, UsageError: The file cannot be written.
    """
    if target.is_file():
        return
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.is_file()
        _fetch_with_retries(url, part, sha256, on_progress)
        digest = sha256_of(part)
        _etag_file(part).unlink(missing_ok=True)
        if not digest.startswith(sha256):
            part.unlink()
            if resumed:  # its beginning was that of another file: once more, from scratch
                download(url, target, sha256, on_progress)
                return
            raise FetchError(
                f"{url}: checksum mismatch: the SHA-256 of the downloaded file begins with "
                f"{digest[: len(sha256[:16])]}, the published one with {sha256[:16]}. Nothing was "
                "kept."
            )
        if not sha256:
            _pin_file(target).write_text(f"{digest}  {target.name}\n")
        os.replace(part, target)
    except OSError as e:
        raise write_error(target, e) from e


def cached(
    name: str,
    url: str,
    sha256: str = "",
    on_progress: ProgressCallback | None = None,
    offline: bool = False,
) -> Path:
    """The path of a URL's file in the cache; the file is downloaded when it is not there.

    Args:
        name: Its file name in the cache.
        sha256, on_progress: See `download`.
        offline: Do not download; $SHARPREEL_OFFLINE means the same.

    Raises:
        FetchError: As `download`; or the file is missing and nothing may be downloaded.
    """
    target = cache_folder() / name
    if not target.is_file() and (offline or is_offline()):
        raise FetchError(
            f"{target}: not there, and nothing may be downloaded (offline). Download it from "
            f"{url} and put it there under this name."
        )
    download(url, target, sha256, on_progress)
    return target


def _pin_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _etag_file(part: Path) -> Path:
    """Holds the ETag of the version of the file that `part` is the beginning of."""
    return part.with_name(part.name + ".etag")


def _fetch_with_retries(
    url: str, part: Path, sha256: str, on_progress: ProgressCallback | None
) -> None:
    """Fill `part`, resuming after breaks for as long as something still arrives."""
    tries = 0
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            _fetch_remainder(url, part, sha256, on_progress)
            return
        except urllib.error.HTTPError as e:
            if e.code == 416 and before:  # the part is complete
                return
            if e.code < 500 or tries == len(PAUSES):
                raise FetchError(f"{url}: the server answers {e.code} {e.reason}.") from e
        except CONNECTION_ERRORS as e:
            if part.is_file() and part.stat().st_size > before:
                tries = 0
            if tries == len(PAUSES):
                raise FetchError(
                    f"{url}: cannot be downloaded ({getattr(e, 'reason', None) or e}). The part "
                    "that arrived is kept: run the same command again to resume, or put the file "
                    f"at {part.with_suffix('')} yourself."
                ) from e
        time.sleep(PAUSES[tries])
        tries += 1


def _fetch_remainder(
    url: str, part: Path, sha256: str, on_progress: ProgressCallback | None
) -> None:
    """Append the missing rest to `part`; start over where the server cannot resume."""
    done = part.stat().st_size if part.is_file() else 0
    with urllib.request.urlopen(
        _range_request(url, part, sha256, done), timeout=TIMEOUT_SECONDS
    ) as response:
        done = done if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        etag = response.headers.get("ETag", "")
        if etag and not etag.startswith("W/"):
            _etag_file(part).write_text(etag)
        with part.open("ab" if done else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if on_progress is not None:
                    on_progress(done, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _range_request(url: str, part: Path, sha256: str, done: int) -> urllib.request.Request:
    """A request for the bytes after `done`, or for all where a change of the file would go unseen.

    A changed file is noticed by its ETag, or afterwards by its published checksum.
    """
    headers = {"User-Agent": f"sharpreel/{__version__}"}
    etag_file = _etag_file(part)
    etag = etag_file.read_text() if etag_file.is_file() else ""
    if done and (etag or sha256):
        headers["Range"] = f"bytes={done}-"
        if etag:
            headers["If-Range"] = etag
    return urllib.request.Request(url, headers=headers)
