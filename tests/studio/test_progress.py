"""Progress bars of a run."""

from __future__ import annotations

from sharpreel.studio import (
    progress,
)
from tests.support.rows import batch, scored


def test_bars_show_the_position_and_the_time_left() -> None:
    none = progress.bars([], 20, 10, progress.loading_bar([], []))
    assert [bar.done for bar in none] == [0, 0, 0, 0]
    event = {"event": "clip", "what": "prepared", "name": "c", "done": 1, "total": 4}
    assert progress.loading_bar([event], [5.0]) == progress.ProgressBar(
        0.25, "Clips prepared: 1 of 4"
    )
    rows = [scored(0, 1, 30, 0), scored(0, 2, 32, 3)]
    rows += [batch(step, 20, 2.0 * step) for step in range(1, 13)]
    rows[12:12] = [scored(10, 1, 30, 20), scored(10, 2, 31, 23)]
    bars = progress.bars(rows, 20, 10, none[0])
    assert [bar.text for bar in bars] == [
        "Clips: loaded",
        "Epochs: 1 of 2, 0:16 left",
        "Training batches: 2 of 10, 0:16 left",
        "Validation batches: 0 of 2, 0:06 left",
    ]
    assert [bar.done for bar in bars] == [1, 0.5, 0.2, 0]
    bars = progress.bars(rows[:13], 20, 10, none[0])
    assert bars[2].text == "Training batches: 10 of 10"
    assert (bars[3].done, bars[3].text) == (0.5, "Validation batches: 1 of 2, 0:03 left")
    first = progress.bars(rows[:1], 20, 10, none[0])
    assert first[3].text == "Validation batches: 1 of 2"  # the speed is unknown


def test_the_time_of_loading_is_estimated_from_events_seen_later() -> None:
    clip = {"event": "clip", "what": "prepared", "name": "c", "total": 10}
    events = [{**clip, "done": k} for k in range(1, 6)]
    at_once = progress.loading_bar(events[:3], [1.0] * 3)
    assert at_once.text == "Clips prepared: 3 of 10"
    later = progress.loading_bar(events, [1.0, 1.0, 1.0, 5.0, 9.0])
    assert later.text == "Clips prepared: 5 of 10, 0:20 left"
    other = [*events, {"event": "clip", "what": "reduced (bi)", "name": "c", "done": 1, "total": 4}]
    assert progress.loading_bar(other, [1.0] * 5 + [9.0]).text == "Clips reduced (bi): 1 of 4"
