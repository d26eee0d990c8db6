"""Files, lists and URLs of videos."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from sharpreel.data import harvest, video_sources
from sharpreel.data.clip_quality import HarvestSettings
from sharpreel.data.video_sources import sources_of, yt_dlp_command
from sharpreel.errors import InputError, UsageError
from tests.support.footage import pan, reports_of, video


def test_folders_and_lists_are_expanded_to_their_videos(tmp_path: Path) -> None:
    for name in ("b/two.mp4", "one.MKV", "notes.md", ".hidden.mp4", ".harvest-x/1.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert sources_of(tmp_path) == [str(tmp_path / "b/two.mp4"), str(tmp_path / "one.MKV")]
    names = tmp_path / "videos.txt"
    names.write_text(
        f"# mine\n\n  one.MKV \n{tmp_path}/b/two.mp4\nhttps://example.org/watch?v=a#t=1\n"
    )
    assert sources_of(names) == [
        str(tmp_path / "one.MKV"),
        str(tmp_path / "b/two.mp4"),
        "https://example.org/watch?v=a#t=1",
    ]
    assert sources_of(tmp_path / "one.MKV") == [str(tmp_path / "one.MKV")]
    assert sources_of("https://example.org/a") == ["https://example.org/a"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no videos found"):
        sources_of(tmp_path / "empty")
    with pytest.raises(InputError, match="no such file or folder"):
        sources_of(tmp_path / "nothing")


FAKE = """#!{python}
import pathlib, shutil, sys
arguments = sys.argv[1:]
address = arguments[arguments.index("--") + 1]
pathlib.Path({log!r}).open("a").write(address + "\\n")
if address.endswith("gone"):
    sys.exit("ERROR: Video unavailable")
template = arguments[arguments.index("-o") + 1]
shutil.copy({video!r}, template.replace("%(id)s", address[-3:]).replace("%(ext)s", "mkv"))
"""


@pytest.fixture
def yt_dlp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake yt-dlp on the PATH that delivers a video of 12 frames; the URLs it was called with."""
    source = video(tmp_path / "downloaded.mkv", pan(12))
    log, script = tmp_path / "asked.txt", tmp_path / "bin" / "yt-dlp"
    script.parent.mkdir()
    script.write_text(FAKE.format(python=sys.executable, log=str(log), video=str(source)))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(script.parent))
    return log


def test_urls_are_downloaded_by_yt_dlp_and_cleaned_up(yt_dlp: Path, tmp_path: Path) -> None:
    names = tmp_path / "videos.txt"
    names.write_text("https://example.org/--gone\nhttps://example.org/watch?v=abc\n")
    rows, (gone, here) = reports_of([names], tmp_path / "out")
    assert gone.problem == (
        "https://example.org/--gone: yt-dlp could not download it (ERROR: Video unavailable)."
    )
    assert here.clips == len(rows) == 2
    assert [row.file for row in rows] == ["abc_0.mp4", "abc_1.mp4"]
    assert {row.source for row in rows} == {"https://example.org/watch?v=abc"}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "abc_0.mp4",
        "abc_1.mp4",
        "done.txt",
        "manifest.csv",
    ]
    reports_of(["https://example.org/watch?v=abc"], tmp_path / "out")
    assert len(yt_dlp.read_text().splitlines()) == 2  # done: not asked for again


def test_an_unsuitable_url_is_named_instead_of_its_temporary_file(
    yt_dlp: Path, tmp_path: Path
) -> None:
    large = HarvestSettings(height=720)
    _, (report,) = reports_of(["https://example.org/v/abc"], tmp_path / "out", large)
    assert report.problem.startswith("https://example.org/v/abc: 192x128 is too small")


def test_without_yt_dlp_urls_are_rejected_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(video_sources, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install yt-dlp"):
        harvest.harvest(["https://example.org/a", tmp_path / "video.mp4"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(video_sources, "find_spec", lambda name: object())
    assert yt_dlp_command() == [sys.executable, "-m", "yt_dlp"]
