"""The journal of a run: what is found again after a crash, and what is not trusted."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpreel.errors import DiskFullError, ResumableError, UsageError
from sharpreel.media.frame import Frame
from sharpreel.pipeline import journal
from sharpreel.pipeline.journal import Journal, ResumePoint, SegmentRecord, digest, identify

SETTINGS: dict[str, Any] = {"scale": 2, "encoder": {"crf": "17"}}


def entry(name: str, first: int = 0) -> SegmentRecord:
    after = "t" if first else ""
    return SegmentRecord(
        name, 0, [first, first + 1], [0, 1], "t", lost=1, last_duration=9, after=after
    )


def write_work_folder(
    output: Path, names: tuple[str, ...] = ("seg-0", "seg-1"), **settings: Any
) -> None:
    """A work folder with these segments, as a run that was killed leaves it."""
    work = Journal(output, {**SETTINGS, **settings})
    for number, name in enumerate(names):
        part = work.path(f"part-{name}")
        part.write_bytes(b"x" * (10 + number))
        work.commit(part, entry(name, 2 * number))
    work.close()


def test_the_work_folder_is_next_to_the_output(tmp_path: Path) -> None:
    work = Journal(tmp_path / "clip.mp4", SETTINGS)
    assert work.folder == tmp_path / "clip.mp4.sharpreel"
    assert json.loads((work.folder / "settings.json").read_text()) == SETTINGS
    work.close()


def test_committed_segments_are_found_again(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4")
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    assert work.entries == [
        replace(entry("seg-0"), size=10),
        replace(entry("seg-1", 2), size=11),
    ]
    assert work.restarted == ""
    assert not list(work.folder.glob("part-*"))
    work.close()


def test_a_part_that_was_not_committed_is_ignored(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4")
    (tmp_path / "o.mp4.sharpreel" / "part-seg-2").write_bytes(b"half")
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    assert [e.name for e in work.entries] == ["seg-0", "seg-1"]
    work.close()


def test_a_segment_that_was_not_journalled_is_ignored(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4")
    (tmp_path / "o.mp4.sharpreel" / "seg-2").write_bytes(b"whole, but the power went off")
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    assert [e.name for e in work.entries] == ["seg-0", "seg-1"]
    work.close()


@pytest.mark.parametrize("keep", [1, 20, -1])
def test_a_torn_last_line_is_skipped(tmp_path: Path, keep: int) -> None:
    write_work_folder(tmp_path / "o.mp4")
    path = tmp_path / "o.mp4.sharpreel" / "journal.jsonl"
    first, second = path.read_bytes().splitlines()
    path.write_bytes(first + b"\n" + second[:keep])
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    assert [e.name for e in work.entries] == ["seg-0"]
    part = work.path("part")
    part.write_bytes(b"again")
    work.commit(part, entry("seg-1", 2))
    work.close()
    again = Journal(tmp_path / "o.mp4", SETTINGS)
    assert [e.name for e in again.entries] == ["seg-0", "seg-1"]
    again.close()


@pytest.mark.parametrize("line", ["null", "[]", "{}", '{"name": 3}', "7", "\x00\x00\x00"])
def test_a_line_that_is_not_a_record_ends_the_journal(tmp_path: Path, line: str) -> None:
    write_work_folder(tmp_path / "o.mp4")
    path = tmp_path / "o.mp4.sharpreel" / "journal.jsonl"
    path.write_text(path.read_text().splitlines()[0] + f"\n{line}\n")
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    assert [e.name for e in work.entries] == ["seg-0"]
    work.close()


def test_a_journal_that_is_not_text_starts_over(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4")
    (tmp_path / "o.mp4.sharpreel" / "journal.jsonl").write_bytes(b"\xff\xfe\x80\n")
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    assert work.entries == []
    work.close()


def test_a_missing_segment_ends_the_journal_there(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4", ("seg-0", "seg-1", "seg-2"))
    (tmp_path / "o.mp4.sharpreel" / "seg-1").unlink()
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    assert [e.name for e in work.entries] == ["seg-0"]
    work.close()


def test_a_segment_cut_short_ends_the_journal_there(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4", ("seg-0", "seg-1", "seg-2"))
    (tmp_path / "o.mp4.sharpreel" / "seg-2").write_bytes(b"x")
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    assert [e.name for e in work.entries] == ["seg-0", "seg-1"]
    work.close()


def test_a_changed_setting_starts_over_and_is_named(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4")
    work = Journal(tmp_path / "o.mp4", {**SETTINGS, "scale": 4})
    assert work.entries == []
    assert work.restarted == "scale changed since the earlier run"
    assert not work.path("seg-0").exists()
    work.close()


def test_settings_that_cannot_be_read_start_over(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4")
    (tmp_path / "o.mp4.sharpreel" / "settings.json").write_text("{")
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    assert work.entries == []
    assert "changed since the earlier run" in work.restarted
    work.close()


def test_segments_without_settings_are_not_trusted(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4")
    (tmp_path / "o.mp4.sharpreel" / "settings.json").unlink()
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    assert work.entries == []
    work.close()


def test_without_resume_the_earlier_run_is_discarded(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4")
    work = Journal(tmp_path / "o.mp4", SETTINGS, resume=False)
    assert work.entries == []
    assert not work.path("seg-0").exists()
    assert work.restarted == ""
    work.close()


def test_two_runs_cannot_share_a_work_folder(tmp_path: Path) -> None:
    first = Journal(tmp_path / "o.mp4", SETTINGS)
    with pytest.raises(ResumableError, match="another run is writing this output"):
        Journal(tmp_path / "o.mp4", SETTINGS)
    first.close()
    Journal(tmp_path / "o.mp4", SETTINGS).close()


def test_a_refused_run_keeps_the_segments_of_the_other(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4")
    first = Journal(tmp_path / "o.mp4", SETTINGS)
    with pytest.raises(ResumableError):
        Journal(tmp_path / "o.mp4", {"scale": 3}, resume=False)
    assert first.path("seg-0").exists()
    first.close()


def test_forgetting_keeps_nothing_for_the_next_run(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4")
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    work.forget("because")
    assert (work.entries, work.restarted) == ([], "because")
    work.close()
    again = Journal(tmp_path / "o.mp4", SETTINGS)
    assert again.entries == []
    again.close()


def test_removing_deletes_the_work_folder(tmp_path: Path) -> None:
    write_work_folder(tmp_path / "o.mp4")
    Journal(tmp_path / "o.mp4", SETTINGS).remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_images_can_be_a_segment(tmp_path: Path) -> None:
    work = Journal(tmp_path / "o", SETTINGS)
    part = work.path("part")
    part.mkdir()
    for name in "abc":
        (part / name).write_bytes(b"p")
    work.commit(part, entry("seg-0"))
    work.close()
    again = Journal(tmp_path / "o", SETTINGS)
    assert [e.size for e in again.entries] == [3]
    again.close()
    (tmp_path / "o.sharpreel" / "seg-0" / "b").unlink()
    third = Journal(tmp_path / "o", SETTINGS)
    assert third.entries == []
    third.close()


def test_a_full_disk_while_committing_is_reported_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    work = Journal(tmp_path / "o.mp4", SETTINGS)
    part = work.path("part")
    part.write_bytes(b"x")
    monkeypatch.setattr(journal, "fsync", full)
    with pytest.raises(DiskFullError, match="the disk is full"):
        work.commit(part, entry("seg-0"))
    assert work.entries == []
    work.close()


def test_a_place_that_cannot_hold_a_work_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UsageError, match="cannot be written"):
        Journal(tmp_path / "file" / "o.mp4", SETTINGS)


def frame(value: int, pts: int) -> Frame:
    return Frame(np.full((4, 6, 3), value, np.uint8), pts)


def test_the_digest_depends_on_pixels_and_timestamps() -> None:
    frames = [frame(1, 0), frame(2, 40)]
    assert digest(frames) == digest([frame(1, 0), frame(2, 40)])
    assert digest(frames) != digest([frame(1, 0), frame(2, 41)])
    assert digest(frames) != digest([frame(1, 0), frame(3, 40)])
    assert digest(frames) != digest(frames[::-1])
    assert digest(frames) != digest(frames[1:])


def test_the_digest_does_not_depend_on_memory_layout() -> None:
    wide = np.arange(4 * 12 * 3, dtype=np.uint8).reshape(4, 12, 3)
    view = wide[:, ::2]
    assert digest([Frame(view, 0)]) == digest([Frame(view.copy(), 0)])


def test_a_file_is_identified_by_size_time_and_head(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    path.write_bytes(b"one")
    first = identify(path)
    assert identify(path) == first
    shutil.copy2(path, tmp_path / "copy.mp4")
    assert identify(tmp_path / "copy.mp4") == first
    path.write_bytes(b"two")
    assert identify(path)["head_sha256"] != first["head_sha256"]
    path.write_bytes(b"longer")
    assert identify(path)["size"] == 6


def test_a_folder_is_identified_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    first = identify(tmp_path)
    assert identify(tmp_path) == first
    (tmp_path / "b.png").write_bytes(b"b")
    assert identify(tmp_path) != first


def chained(number: int) -> SegmentRecord:
    """The segment of two frames after segment `number` - 1."""
    after = "" if number == 0 else f"tail {number - 1}"
    first = 10 * number
    return SegmentRecord(
        f"seg-{number}", 0, [first, first + 1], [0, 1], f"tail {number}", after=after
    )


def commit(work: Journal, *numbers: int) -> None:
    for number in numbers:
        part = work.path(f"part-{number}")
        part.write_bytes(b"x")
        work.commit(part, chained(number))


def names(entries: Iterable[SegmentRecord]) -> list[str]:
    return [entry.name for entry in entries]


def test_early_segments_wait_for_those_before_them(tmp_path: Path) -> None:
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    commit(work, 2, 0)
    assert (names(work.entries), names(work.waiting.values())) == (["seg-0"], ["seg-2"])
    assert work.frames == 4
    commit(work, 1)
    assert (names(work.entries), work.waiting) == (["seg-0", "seg-1", "seg-2"], {})
    work.close()


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_later_run_finds_segments_in_their_order_however_they_were_finished(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    commit(work, *order[:-1])
    work.close()
    again = Journal(tmp_path / "o.mp4", SETTINGS)
    gap = order[-1]
    assert names(again.entries) == [f"seg-{k}" for k in range(gap)]
    assert sorted(names(again.waiting.values())) == [f"seg-{k}" for k in range(gap + 1, 4)]
    commit(again, gap)
    assert names(again.entries) == [f"seg-{k}" for k in range(4)]
    again.close()


def test_a_resume_point_is_identified_by_the_frames_before_it(tmp_path: Path) -> None:
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    assert work.resume_point(3) == ResumePoint()
    assert work.resume_point(3).done_until is None
    commit(work, 0, 1)
    assert work.resume_point(3) == ResumePoint(2, 4, (1, 10, 11), "tail 1")
    assert work.resume_point(3).done_until == 11
    assert work.resume_point(3).after(chained(2), 3) == ResumePoint(3, 6, (11, 20, 21), "tail 2")
    work.close()


def test_forgetting_discards_waiting_segments_too(tmp_path: Path) -> None:
    work = Journal(tmp_path / "o.mp4", SETTINGS)
    commit(work, 0, 2)
    work.forget("because")
    work.close()
    again = Journal(tmp_path / "o.mp4", SETTINGS)
    assert (again.entries, again.waiting) == ([], {})
    again.close()
