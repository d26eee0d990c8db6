"""verify.py: each kind of difference is found, and a faithful file has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from sharpreel.errors import InputError, VerificationError
from sharpreel.media import mux
from sharpreel.media.frame import TimeRange
from sharpreel.media.mux import Assembly
from sharpreel.media.probe import probe
from sharpreel.media.streams import StreamPlan, add_copied_stream
from sharpreel.media.verify import Expected, verify
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import Plan, make_plan
from sharpreel.upscale import run, upscale_video
from tests.support.videos import (
    ffmpeg,
    make_bars,
    make_clip,
    make_hdr10,
    make_rich,
    moving,
    packets,
    write_frames,
)

Change = Callable[[int, Any], bool]


def remux(source: Path, output: Path, change: Change | None = None, **options: Any) -> Path:
    """Copy all packets; `change` gets (number of its stream's packets before it, packet), may
    alter it, and returns whether to keep it. `drop` is the index of a stream to skip."""
    drop = options.get("drop")
    with av.open(str(source)) as one, av.open(str(output), "w") as two:
        copies = {s.index: add_copied_stream(two, s) for s in one.streams if s.index != drop}
        two.metadata.update(options.get("tags", one.metadata))
        two.set_chapters(options.get("chapters", one.chapters()))
        for index, tags in options.get("stream_tags", {}).items():
            copies[index].metadata.update(tags)
        two.start_encoding()
        seen = dict.fromkeys(copies, 0)
        wanted = [one.streams[k] for k in copies if one.streams[k].type != "attachment"]
        for packet in one.demux(wanted):
            index = packet.stream_index
            if packet.size == 0:
                continue
            seen[index] += 1
            if change is None or change(seen[index] - 1, packet):
                packet.stream = copies[index]
                two.mux(packet)
    return output


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two audio tracks, subtitles, an attachment, chapters and tags, in Matroska; no B-frames."""
    folder = tmp_path_factory.mktemp("video")
    clip = make_clip(folder / "clip.mkv", audio=False, options={"bf": "0"}, color=(6, 6, 6, 1))
    return make_rich(folder / "video.mkv", clip)


def test_a_copy_has_no_differences(video: Path, tmp_path: Path) -> None:
    assert verify(video, remux(video, tmp_path / "copy.mkv")) == []


def test_an_upscaled_video_has_no_differences(video: Path, tmp_path: Path) -> None:
    upscale_video(video, tmp_path / "out.mkv", model="bicubic")
    assert verify(video, tmp_path / "out.mkv") == []


def test_a_dropped_frame_is_found(video: Path, tmp_path: Path) -> None:
    def without_the_last(number: int, packet: Any) -> bool:
        return not (packet.stream_index == 0 and number == 23)

    out = remux(video, tmp_path / "out.mkv", without_the_last)
    assert verify(video, out) == ["24 frames went in, 23 came out"]


def test_moved_frames_are_found_and_not_all_listed(video: Path, tmp_path: Path) -> None:
    def later(number: int, packet: Any) -> bool:
        if packet.stream_index == 0 and number >= 10:
            packet.pts, packet.dts = packet.pts + 5, packet.dts + 5
        return True

    found = verify(video, remux(video, tmp_path / "out.mkv", later))
    assert found[0] == "frame 10 should be shown at 0.400000 s, is at 0.405000 s"
    assert found[5] == "... and 9 more frames are at another time"


def test_one_tick_is_a_difference_where_times_are_exact(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", rate=30, frames=10, audio=False, options={"bf": "0"})

    def later(number: int, packet: Any) -> bool:
        packet.pts += number == 4
        packet.dts += number == 4
        return True

    (found,) = verify(clip, remux(clip, tmp_path / "out.mp4", later))
    assert found.startswith("frame 4 should be shown at 0.133333 s, is at 0.133398 s")


def test_changed_audio_is_found(video: Path, tmp_path: Path) -> None:
    def all_but_one(number: int, packet: Any) -> bool:
        return not (packet.stream_index == 1 and number == 7)

    (found, *_) = verify(video, remux(video, tmp_path / "short.mkv", all_but_one))
    assert found.startswith("audio stream 1 (aac, eng): its packets' bytes changed (43 packets, 42")
    data = bytearray((remux(video, tmp_path / "out.mkv")).read_bytes())
    sound = packets(video, "audio")[7][1]
    place = data.index(sound) + len(sound) // 2
    data[place] ^= 0xFF
    (tmp_path / "out.mkv").write_bytes(data)
    assert verify(video, tmp_path / "out.mkv") == [
        "audio stream 1 (aac, eng): its packets' bytes changed (43 packets, 43 now)"
    ]


def test_moved_audio_is_found(video: Path, tmp_path: Path) -> None:
    def later(number: int, packet: Any) -> bool:
        if packet.stream_index == 2:
            packet.pts, packet.dts = packet.pts + 20, packet.dts + 20
        return True

    (found,) = verify(video, remux(video, tmp_path / "out.mkv", later))
    assert found.startswith(
        "audio stream 2 (aac, deu): 43 packets moved, the first from -0.023000 s"
    )


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (2, "audio stream 2 (aac, deu) is missing"),
        (4, "subtitle stream 4 (ass, jpn) is missing"),
        (5, "attachment stream 5 (font.ttf) is missing"),
    ],
)
def test_a_missing_stream_is_found(video: Path, tmp_path: Path, index: int, message: str) -> None:
    assert verify(video, remux(video, tmp_path / "out.mkv", drop=index)) == [message]


def test_a_stream_that_the_plan_drops_is_not_a_difference(video: Path, tmp_path: Path) -> None:
    out = remux(video, tmp_path / "out.mkv", drop=2)
    dropped = StreamPlan(2, "audio", "aac", "drop")
    assert verify(video, out, expected=Expected(streams=[dropped])) == []


def test_another_language_or_title_is_found(video: Path, tmp_path: Path) -> None:
    tags = {1: {"language": "fin"}, 2: {"title": "Comment"}}
    assert verify(video, remux(video, tmp_path / "out.mkv", stream_tags=tags)) == [
        "audio stream 1 (aac, eng): tag language='eng' became 'fin'",
        "audio stream 2 (aac, deu): tag title='Kommentar' became 'Comment'",
    ]


def test_another_disposition_is_found(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    ffmpeg("-i", video, "-map", "0", "-c", "copy", "-disposition:s:0", "0", out)
    (found,) = verify(video, out)
    assert found.startswith("subtitle stream 3 (subrip, fra): disposition")


def test_another_attachment_is_found(video: Path, tmp_path: Path) -> None:
    out = remux(video, tmp_path / "out.mkv")
    data = out.read_bytes()
    font = bytes(range(256)) * 5
    out.write_bytes(data.replace(font, font[:-1] + b"!"))
    assert verify(video, out) == ["attachment stream 5 (font.ttf) changed its bytes"]


def test_other_tags_are_found(video: Path, tmp_path: Path) -> None:
    tags = {"title": "Another title", "comment": "Two words"}
    assert sorted(verify(video, remux(video, tmp_path / "out.mkv", tags=tags))) == [
        "the file: tag ARTIST='Somebody' became None",
        "the file: tag title='A title' became 'Another title'",
    ]


def test_other_chapters_are_found(video: Path, tmp_path: Path) -> None:
    with av.open(str(video)) as file:
        first, second = file.chapters()
    one = remux(video, tmp_path / "one.mkv", chapters=[first])
    assert verify(video, one) == ["2 chapters became 1"]
    moved: Any = {**second, "start": second["start"] + 10_000_000}
    two = remux(video, tmp_path / "two.mkv", chapters=[first, moved])
    assert verify(video, two) == ["chapter 1 ('The end' at 0.400 s) became 'The end' at 0.410 s"]


def variant(path: Path, **changed: Any) -> Path:
    """A clip that is like every other variant but for what is named."""
    like: dict[str, Any] = {"frames": 3, "audio": False, "color": (1, 1, 1, 1)}
    return make_clip(path, **like | changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"aspect": Fraction(4, 3)}, "shown 1.3333 wide to 1 high, now 1.7778"),
        ({"rotation": 90}, "rotation 0 became 90"),
        ({"color": (6, 1, 1, 1)}, "colour matrix BT.709 became BT.601"),
        ({"color": (1, 1, 1, 2)}, "colour range limited became full"),
        ({"color": (1, 9, 1, 1)}, "colour primaries 1 became 9"),
        ({"color": (1, 1, 16, 1)}, "colour transfer 1 became 16"),
    ],
)
def test_another_shape_or_colour_is_found(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    one = variant(tmp_path / "one.mp4")
    two = variant(tmp_path / "two.mp4", **changed)
    assert verify(one, two) == [message]
    assert verify(two, two) == []


def test_fewer_bits_are_found(tmp_path: Path) -> None:
    one = variant(tmp_path / "one.mp4", pix_fmt="yuv420p10le")
    two = variant(tmp_path / "two.mp4")
    assert verify(one, two) == ["10 bits became 8"]


def test_lost_hdr_metadata_is_found(tmp_path: Path) -> None:
    one = make_hdr10(tmp_path / "one.mp4", frames=3)
    two = make_clip(
        tmp_path / "two.mp4",
        frames=3,
        codec="libx265",
        pix_fmt="yuv420p10le",
        color=(9, 9, 16, 1),
        options={"x265-params": "log-level=none"},
    )
    (found,) = verify(one, two)
    assert found.startswith("HDR10 metadata Hdr10(")
    assert found.endswith("became None")


def test_a_cut_is_compared_with_its_window_only(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=30)
    window = TimeRange(Fraction(2, 5), Fraction(1))
    out = tmp_path / "out.mp4"
    upscale_video(clip, out, model="bicubic", start=window.start, end=window.end)
    assert verify(clip, out, window) == []
    assert verify(clip, out)[0] == "30 frames went in, 15 came out"
    assert verify(clip, out, TimeRange(Fraction(2, 5), Fraction(24, 25)))[0] == (
        "14 frames went in, 15 came out"
    )


def test_files_that_cannot_be_read_are_errors_and_not_differences(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=2)
    with pytest.raises(InputError, match="no such file"):
        verify(clip, tmp_path / "missing.mp4")


def test_a_run_whose_output_is_not_faithful_fails_and_keeps_the_file_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=4, aspect=Fraction(4, 3))
    real = mux.assemble

    def careless(plan: Assembly, *rest: Any) -> None:
        real(replace(plan, settings=replace(plan.settings, sample_aspect_ratio=Fraction(1))), *rest)

    plan: Plan = make_plan(clip, tmp_path / "out.mp4", UpscaleOptions(model="bicubic"))
    monkeypatch.setattr(mux, "assemble", careless)
    with pytest.raises(VerificationError, match="not written") as error:
        run(plan)
    assert error.value.exit_code == 5
    assert error.value.differences == ["sample aspect ratio 4/3 became 1"]
    assert not plan.output.exists()
    kept = tmp_path / "out.mp4.sharpreel" / "finished.mp4"
    assert probe(kept).num_frames == 4


def test_an_rgb_source_may_become_any_matrix_but_must_keep_its_frames(tmp_path: Path) -> None:
    rgb = write_frames(tmp_path / "in.mkv", moving((128, 64), 3), codec="ffv1", pix_fmt="bgr0")
    yuv = make_bars(tmp_path / "out.mkv", "bt709", frames=3)
    assert verify(rgb, yuv) == []
    shorter = make_bars(tmp_path / "shorter.mkv", "bt709", frames=2)
    assert verify(rgb, shorter) == ["3 frames went in, 2 came out"]
