from __future__ import annotations

from pathlib import Path

from tests.support.terminal import events, sharpreel


def test_json_lines_report_the_whole_run(clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    done = sharpreel("upscale", clip, "-o", output, "--json", "--segment-seconds", "0.24")
    assert done.returncode == 0
    assert done.stderr == ""
    said = events(done.stdout)
    names = [one["event"] for one in said]
    assert names[0] == "start"
    assert names[-1] == "done"
    assert {"progress", "segment"} <= set(names)
    assert (said[0]["input"], said[0]["output"]) == (str(clip), str(output))
    assert said[-1]["frames"] == 24
    assert said[-1]["verified"] is True
    for one in said:
        if one["event"] == "progress":
            assert 0 <= one["frames"] <= one["total"] == 24
            assert one["fps"] > 0
    assert [one["segment"] for one in said if one["event"] == "segment"] == [0, 1, 2]
