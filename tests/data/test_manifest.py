"""The manifest of harvested clips."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sharpreel.data.manifest import (
    ManifestRow,
    read_manifest,
    read_text,
    replace_file,
    write_manifest,
)
from sharpreel.errors import InputError, UsageError

ROW = ManifestRow(
    file="a_0.mp4",
    source='/videos/a, "b".mp4',
    start_seconds=1.25,
    frames=20,
    width=640,
    height=360,
    source_width=1920,
    source_height=1080,
    motion=2.5,
    detail=81.3,
    blockiness=1.004,
    score=0.5125,
    sha256="ab" * 32,
    rights="own",
)


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [ROW, replace(ROW, file="b_0.mp4", source="https://example.org/b?x=1")]
    write_manifest(tmp_path / "manifest.csv", rows)
    assert read_manifest(tmp_path / "manifest.csv") == rows


def test_file_names_that_are_not_utf_8_survive(tmp_path: Path) -> None:
    row = replace(ROW, source=os.fsdecode(b"/videos/caf\xe9.mp4"))
    write_manifest(tmp_path / "manifest.csv", [row])
    assert b"caf\xe9" in (tmp_path / "manifest.csv").read_bytes()
    assert read_manifest(tmp_path / "manifest.csv") == [row]


@pytest.mark.parametrize(
    "content",
    ["name,path\na,b\n", "file,source,frames\na,b,many\n"],
    ids=["other columns", "not a number"],
)
def test_another_table_is_rejected_with_its_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(content)
    with pytest.raises(InputError, match="line 2 is not a row of a manifest of clips"):
        read_manifest(tmp_path / "manifest.csv")


def test_a_manifest_that_cannot_be_read_or_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_text(tmp_path / "missing.csv")
    with pytest.raises(UsageError, match="cannot be written"):
        write_manifest(tmp_path / "missing" / "manifest.csv", [ROW])


def test_replacing_a_file_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "done.txt").write_text("old")
    replace_file(tmp_path / "done.txt", "new\n")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("done.txt", "new\n")]
