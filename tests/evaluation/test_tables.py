"""Tables and CSV files."""

from __future__ import annotations

import csv
from pathlib import Path

from sharpreel.evaluation import tables
from sharpreel.evaluation.results import Evaluation


def test_tables_name_the_protocol_and_csv_files_hold_all_digits(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    text = tables.to_markdown(evaluation)
    assert text.count("x4, degradation bi, protocol P1") == 2
    assert "| walk | 48x36 | 5 |" in text
    tables.write_csv(evaluation, tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["protocol"] for row in rows} == {"P1"}
    assert [float(r["psnr"]) for r in rows if r["model"] == "bicubic"] == [
        clip.of("bicubic").psnr for clip in evaluation.clips
    ]
    tables.write_frames_csv(evaluation, tmp_path / "frames.csv")
    with (tmp_path / "frames.csv").open(newline="") as file:
        frames = list(csv.DictReader(file))
    assert len(frames) == 40
    assert float(frames[0]["ssim"]) == evaluation.clips[0].results[0].frames[0].ssim
