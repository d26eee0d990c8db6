from __future__ import annotations

from pathlib import Path

from sharpreel.pipeline.inputs import find_inputs


def test_hidden_files_and_folders_are_not_inputs(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "._a.mp4").write_bytes(b"what a Mac leaves on a stick")
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "b.mp4").write_bytes(clip.read_bytes())
    jobs = find_inputs(tmp_path, None, recursive=True)
    assert [source.name for source, _ in jobs] == ["a.mp4"]
