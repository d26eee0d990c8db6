"""harvest.py: films with good and bad stretches, made here; what is taken and what is not."""

from __future__ import annotations

import csv
import errno
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from sharpreel import ops
from sharpreel.data import harvest, video_sources
from sharpreel.data.clip_quality import ClipMeasures, HarvestSettings
from sharpreel.data.harvest import PER_PART, HarvestReport, _Pool, _Window, _write_clip, shrink
from sharpreel.data.manifest import ManifestRow, read_manifest
from sharpreel.data.video_sources import sources_of, yt_dlp_command
from sharpreel.errors import DiskFullError, InputError, SharpreelError, UsageError
from sharpreel.evaluation.metrics.fidelity import psnr_y
from sharpreel.media.reader import read_frames
from sharpreel.system import download
from tests.support.videos import Pixels, make_hdr10, video_pts, write_frames

SIZE = (192, 128)
SMALL = HarvestSettings(clip_len=5, height=64, preset="veryfast")
Maker = Callable[[int], Iterable[Pixels]]


def texture(seed: int, size: tuple[int, int] = (512, 384)) -> npt.NDArray[np.float64]:
    """Patches of several sizes about a middle grey, (H, W, 3), 30 to 220."""
    rng = np.random.default_rng(seed)
    width, height = size
    picture = np.zeros((height, width, 3))
    for patch, weight in ((64, 45.0), (16, 45.0), (5, 35.0)):
        rough = rng.uniform(-1, 1, (height // patch + 2, width // patch + 2, 1))
        rough = rough + 0.2 * rng.uniform(-1, 1, (*rough.shape[:2], 3))
        picture += weight * rough.repeat(patch, 0).repeat(patch, 1)[:height, :width]
    near = [np.roll(picture, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    brightness = 150 if seed % 2 else 100
    soft: npt.NDArray[np.float64] = np.clip(brightness + np.mean(near, axis=0), 30, 220)
    return soft


def pan(
    frames: int, seed: int = 0, step: int = 2, size: tuple[int, int] = SIZE
) -> Iterator[Pixels]:
    """A window that moves over a texture, by `step` pixels a frame."""
    width, height = size
    whole = texture(seed, (width + step * frames, height + frames))
    for t in range(frames):
        yield np.rint(whole[t : t + height, step * t : step * t + width]).astype(np.uint8)


def faint(pictures: Iterable[Pixels]) -> Iterator[Pixels]:
    """The same with half the contrast, which has half the motion too."""
    return ((picture // 2 + 60).astype(np.uint8) for picture in pictures)


def still(frames: int) -> Iterator[Pixels]:
    """Nearly nothing moves: the brightness breathes by half a level."""
    first = next(pan(1)).astype(np.float64)
    for t in range(frames):
        yield np.rint(first + 0.3 * (t % 3) - 0.3).astype(np.uint8)


def blurred(frames: int) -> Iterator[Pixels]:
    for picture in pan(frames, step=4, size=(384, 256)):
        small = ops.resize(picture, 10, 15)
        yield ops.resize(small, SIZE[1], SIZE[0])


def blocky(frames: int) -> Iterator[Pixels]:
    for picture in pan(frames):
        squares = picture.reshape(SIZE[1] // 8, 8, SIZE[0] // 8, 8, 3).mean((1, 3))
        mean = squares.repeat(8, 0).repeat(8, 1)
        yield np.rint(mean + 0.4 * (picture - mean)).astype(np.uint8)


def dark(frames: int) -> Iterator[Pixels]:
    return ((picture // 16).astype(np.uint8) for picture in pan(frames))


def flat(frames: int) -> Iterator[Pixels]:
    return ((120 + picture // 16).astype(np.uint8) for picture in pan(frames))


def combed(frames: int) -> Iterator[Pixels]:
    whole = list(faint(pan(2 * frames)))
    for first, second in zip(whole[::2], whole[1::2], strict=True):
        woven = first.copy()
        woven[1::2] = second[1::2]
        yield woven


def flashing(frames: int) -> Iterator[Pixels]:
    """A short flash in each five frames that is too weak to look like a cut."""
    for t, picture in enumerate(pan(frames, step=1)):
        yield (100 + picture // 4 + (14 if t % 5 == 2 else 0)).astype(np.uint8)


def film(path: Path, *stretches: Iterable[Pixels], rate: int = 25, **more: Any) -> Path:
    """The stretches one after the other, losslessly coded."""
    pictures = [picture for stretch in stretches for picture in stretch]
    options = {"qp": "0", "preset": "ultrafast"}
    return write_frames(path, pictures, rate=rate, options=options, **more)


def reports_of(
    sources: Iterable[str | Path], out: Path, settings: HarvestSettings = SMALL
) -> tuple[list[ManifestRow], list[HarvestReport]]:
    """What a run returns, and what it told at the end of each source."""
    told: list[HarvestReport] = []
    rows = harvest.harvest(sources, out, settings, told.append)
    return rows, [report for report in told if report.finished]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of 12 frames; windows of five do not fit their borders. Shared: read only."""
    folder = tmp_path_factory.mktemp("scenes")
    return film(folder / "a film.mp4", *(pan(12, seed) for seed in (1, 2, 3)))


def test_a_clip_is_its_stretch_of_the_source_scaled_down(scenes: Path, tmp_path: Path) -> None:
    rows, _ = reports_of([scenes], tmp_path)
    source = read_frames(scenes)
    assert len(rows) == 6
    for row in rows:
        clip = read_frames(tmp_path / row.file)
        first = round(row.start_seconds * 25)
        wanted = np.stack([shrink(f, 64, 96) for f in source[first : first + 5]])
        assert clip.shape == wanted.shape == (row.frames, row.height, row.width, 3)
        assert min(map(psnr_y, clip, wanted)) > 42
        assert psnr_y(wanted[0], ops.resize(source[first], 64, 96)) > 30
    assert [row.file for row in rows] == [f"a_film_{k}.mp4" for k in range(6)]
    assert {(row.source, row.source_width, row.source_height) for row in rows} == {
        (str(scenes), 192, 128)
    }


def test_no_clip_spans_a_cut(scenes: Path, tmp_path: Path) -> None:
    rows, (report,) = reports_of([scenes], tmp_path)
    assert report.scenes == 3
    starts = [round(row.start_seconds * 25) for row in rows]
    assert starts == [0, 5, 12, 17, 24, 29]


def test_clips_are_plain_bt709_mp4_without_sound_and_with_the_films_timing(
    tmp_path: Path,
) -> None:
    source = film(tmp_path / "loud.mp4", pan(6), rate=30, audio=True)
    (row,), _ = reports_of([source], tmp_path / "out")
    with av.open(str(tmp_path / "out" / row.file)) as clip:
        assert [stream.type for stream in clip.streams] == ["video"]
        stream = clip.streams.video[0]
        context: Any = stream.codec_context
        assert (context.name, context.pix_fmt, context.colorspace) == ("h264", "yuv420p", 1)
        assert (context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1)
    assert video_pts(tmp_path / "out" / row.file) == [Fraction(k, 30) for k in range(5)]


def test_the_manifest_has_a_row_for_each_clip(scenes: Path, tmp_path: Path) -> None:
    mine = HarvestSettings(
        clip_len=5, height=64, preset="veryfast", per_video=2, rights="permissive"
    )
    rows, _ = reports_of([scenes], tmp_path, mine)
    with (tmp_path / "manifest.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert (
        lines[0]
        == (
            "file source start_seconds frames width height source_width source_height "
            "motion detail blockiness score sha256 rights"
        ).split()
    )
    assert read_manifest(tmp_path / "manifest.csv") == rows
    assert {row.rights for row in rows} == {"permissive"}
    assert all(download.sha256_of(tmp_path / row.file) == row.sha256 for row in rows)
    assert all(row.motion > 0.5 and row.detail > 20 and 0 < row.score <= 1 for row in rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a_film_0.mp4",
        "a_film_1.mp4",
        "done.txt",
        "manifest.csv",
    ]


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("static", still),
        ("blurred", blurred),
        ("blocky", blocky),
        ("dark", dark),
        ("flat", flat),
        ("combed", combed),
        ("jump", flashing),
    ],
)
def test_a_bad_stretch_is_not_taken_and_the_reason_is_told(
    reason: str, make: Maker, tmp_path: Path
) -> None:
    settings = HarvestSettings(clip_len=5, height=64, repeat_below=0.0)
    source = film(tmp_path / "bad.mkv", make(10))
    rows, (report,) = reports_of([source], tmp_path / "out", settings)
    assert rows == []
    assert report.rejected == {reason: 2}
    assert (report.windows, report.clips, report.problem) == (2, 0, "")


def test_frames_that_repeat_are_left_out_and_a_frozen_picture_makes_no_clip(tmp_path: Path) -> None:
    twice = [picture for picture in pan(10) for _ in (0, 1)]
    frozen = list(pan(1, seed=5)) * 12
    source = film(tmp_path / "film.mkv", twice, frozen)
    rows, (report,) = reports_of([source], tmp_path / "out")
    assert len(rows) == 2
    assert report.repeated == 10 + 11
    clip = read_frames(tmp_path / "out" / rows[0].file)
    assert min(np.abs(np.diff(clip.astype(np.int16), axis=0)).mean((1, 2, 3))) > 2
    assert rows[1].start_seconds == 0.4  # its own time in the film, repeats counted


def test_repeats_are_known_through_compression(tmp_path: Path) -> None:
    twice = [picture for picture in pan(12) for _ in (0, 1)]
    source = write_frames(tmp_path / "film.mkv", twice, rate=25, options={"crf": "23"})
    rows, (report,) = reports_of([source], tmp_path / "out")
    assert report.repeated >= 11
    last = read_frames(tmp_path / "out" / rows[-1].file).astype(np.int16)
    assert min(np.abs(np.diff(last, axis=0)).mean((1, 2, 3))) > 2


def test_fast_films_lose_every_second_frame(tmp_path: Path) -> None:
    source = film(tmp_path / "fast.mkv", pan(20, step=1), rate=60)
    rows, _ = reports_of([source], tmp_path / "out")
    assert [row.start_seconds for row in rows] == pytest.approx([0, 10 / 60], abs=2e-3)
    clip = read_frames(tmp_path / "out" / rows[0].file)
    wanted = shrink(read_frames(source)[8], 64, 96)
    assert psnr_y(clip[4], wanted) > 42


def test_few_windows_are_taken_the_best_and_spread_over_the_film(tmp_path: Path) -> None:
    poor = [faint(pan(10, seed, step=1)) for seed in (1, 3)]
    good = [pan(10, seed, step=1) for seed in (2, 4)]
    source = film(tmp_path / "film.mkv", poor[0], good[0], poor[1], good[1])
    one = HarvestSettings(clip_len=5, height=64, preset="veryfast", per_scene=1)
    rows, _ = reports_of([source], tmp_path / "scenes", one)
    assert [int(row.start_seconds * 25) // 10 for row in rows] == [0, 1, 2, 3]
    two = HarvestSettings(clip_len=5, height=64, preset="veryfast", per_video=2)
    rows, _ = reports_of([source], tmp_path / "video", two)
    assert [int(row.start_seconds * 25) // 10 for row in rows] == [1, 3]


def test_a_part_without_a_good_window_leaves_its_place_to_others(tmp_path: Path) -> None:
    source = film(tmp_path / "film.mkv", dark(20), pan(10, 1), pan(10, 2))
    two = HarvestSettings(clip_len=5, height=64, preset="veryfast", per_video=2)
    rows, (report,) = reports_of([source], tmp_path / "out", two)
    assert report.rejected == {"dark": 4}
    assert len(rows) == 2
    assert all(row.start_seconds >= 0.8 for row in rows)


@pytest.mark.parametrize("seconds", [1000.0, 10.0, None])
def test_few_windows_wait_however_long_a_film_is_or_says_it_is(
    seconds: float | None, tmp_path: Path
) -> None:
    settings = HarvestSettings(clip_len=2, per_video=4, per_scene=3)
    pool = _Pool(tmp_path, settings, seconds)
    good = ClipMeasures(5, 1, 100, 1, 0, 100, 50)
    for k in range(1000):
        window = _Window(k // 4, [np.zeros((2, 2, 3), np.uint8)] * 2, [k, k + 1])
        pool.add(window, good, float(k))
        assert len(list(tmp_path.iterdir())) <= PER_PART * settings.per_video
    begins = [one.begins for one in pool.best()]
    assert 3 <= len(begins) <= 4
    assert begins[-1] - begins[0] > 400
    assert all(one.path.is_file() for one in pool.best())


def test_finished_sources_are_passed_over_and_the_rest_is_done(
    scenes: Path, tmp_path: Path
) -> None:
    barren = film(tmp_path / "dark.mkv", dark(6))
    rows, _ = reports_of([scenes, barren], tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.mp4")}
    assert reports_of([scenes, barren, scenes], tmp_path / "out") == ([], [])
    more = film(tmp_path / "a film.mkv", pan(6, 7))
    new, reports = reports_of([scenes, barren, more], tmp_path / "out")
    assert [row.file for row in new] == ["a_film_6.mp4"]  # of one stem, and no clip is replaced
    assert [report.source for report in reports] == [str(more)]
    assert read_manifest(tmp_path / "out" / "manifest.csv") == [*rows, *new]
    assert all(p.stat().st_mtime_ns == when for p, when in before.items())
    assert (tmp_path / "out" / "done.txt").read_text().splitlines() == [
        *map(str, (scenes, barren, more))
    ]


def test_a_run_that_was_killed_leaves_no_half_clip_and_goes_on(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = film(tmp_path / "first.mkv", pan(6))
    honest, calls = _write_clip, 0

    def dying(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        honest(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(harvest, "_write_clip", dying)
        with pytest.raises(KeyboardInterrupt):
            reports_of([first, scenes], tmp_path / "out")
    (tmp_path / "out" / ".harvest-left").mkdir()  # as SIGKILL leaves one
    assert len(read_manifest(tmp_path / "out" / "manifest.csv")) == 1
    rows, reports = reports_of([first, scenes], tmp_path / "out")
    assert [report.source for report in reports] == [str(scenes)]
    assert len(rows) == 6
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"manifest.csv", "done.txt", "first_0.mp4", *(row.file for row in rows)}


def test_what_cannot_be_read_is_told_and_the_others_are_done(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video at all" * 100)
    sources = [tmp_path / "missing.mp4", tmp_path / "broken.mp4", scenes]
    rows, (missing, broken, whole) = reports_of(sources, tmp_path / "out")
    assert "no such file" in missing.problem
    assert "not a readable video" in broken.problem
    assert (whole.problem, whole.clips, len(rows)) == ("", 6, 6)
    _, again = reports_of(sources, tmp_path / "out")
    assert [report.source for report in again] == [str(tmp_path / "missing.mp4"), broken.source]


def test_nothing_is_taken_across_frames_that_are_lost(tmp_path: Path) -> None:
    source = write_frames(
        tmp_path / "film.mkv", pan(20), options={"g": "10", "bf": "0", "preset": "ultrafast"}
    )
    hurt = tmp_path / "hurt.mkv"
    with av.open(str(source)) as one, av.open(str(hurt), "w") as two:
        stream = two.add_stream_from_template(one.streams.video[0])
        for k, packet in enumerate(p for p in one.demux(video=0) if p.size):
            sent: Any = packet
            if k == 6:
                sent = av.Packet(b"\0" * packet.size)
                sent.pts, sent.dts, sent.time_base = packet.pts, packet.dts, packet.time_base
            sent.stream = stream
            two.mux(sent)
    rows, (report,) = reports_of([hurt], tmp_path / "out")
    assert [round(row.start_seconds * 25) for row in rows] == [0, 10, 15]
    assert report.scenes == 2
    assert "frames do not decode" in report.problem


def test_small_sources_are_refused_unless_they_are_allowed(tmp_path: Path) -> None:
    source = film(tmp_path / "small.mkv", pan(6, size=(130, 90)))
    rows, (report,) = reports_of([source], tmp_path / "no")
    assert rows == []
    assert "130x90 is too small: clips of 64 pixels want 96 or more" in report.problem
    few = HarvestSettings(clip_len=5, height=64, allow_small=True, preset="veryfast")
    (row,), _ = reports_of([source], tmp_path / "down", few)
    assert (row.width, row.height) == (92, 64)
    same = HarvestSettings(clip_len=5, height=360, allow_small=True, preset="veryfast")
    (row,), _ = reports_of([source], tmp_path / "same", same)
    assert (row.width, row.height) == (130, 90)


def test_upright_and_turned_films_stand_and_pixels_become_square(tmp_path: Path) -> None:
    upright = film(tmp_path / "upright.mkv", pan(6, size=(128, 192)))
    turned = film(tmp_path / "turned.mp4", pan(6), rotation=90)
    wide = film(tmp_path / "wide.mkv", pan(6), aspect=Fraction(4, 3))
    rows, _ = reports_of([upright, turned, wide], tmp_path / "out")
    assert [(row.width, row.height) for row in rows] == [(64, 96), (64, 96), (128, 64)]
    clip = read_frames(tmp_path / "out" / rows[1].file)
    source = shrink(read_frames(turned)[0], 64, 96)
    assert psnr_y(clip[0], np.rot90(source, -1)) > 42


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 3 * 8 * 12).astype(np.uint16).reshape(8, 12, 3)
    small = shrink(deep, 2, 3)
    means = deep.reshape(2, 4, 3, 4, 3).astype(np.float64).mean((1, 3)) / 257
    assert small.dtype == np.uint8
    assert np.abs(small - means).max() <= 0.5
    assert np.array_equal(shrink(deep, 8, 12), (deep.astype(np.uint32) + 128) // 257)


def test_hdr_is_refused(tmp_path: Path) -> None:
    _, (report,) = reports_of([make_hdr10(tmp_path / "hdr.mkv")], tmp_path / "out")
    assert "is HDR (PQ); clips are BT.709" in report.problem


def test_folders_and_lists_name_their_videos(tmp_path: Path) -> None:
    for name in ("b/two.mp4", "one.MKV", "notes.md", ".hidden.mp4", ".harvest-x/1.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert sources_of(tmp_path) == [str(tmp_path / "b/two.mp4"), str(tmp_path / "one.MKV")]
    names = tmp_path / "films.txt"
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
    with pytest.raises(InputError, match="names no video"):
        sources_of(tmp_path / "empty")
    with pytest.raises(InputError, match="no such file or folder"):
        sources_of(tmp_path / "nothing")


def test_clips_that_lie_among_the_sources_are_no_sources(tmp_path: Path) -> None:
    film(tmp_path / "film.mkv", pan(6))
    tiny = HarvestSettings(clip_len=5, height=64, least_shrink=1.0, preset="veryfast")
    rows, _ = reports_of([tmp_path], tmp_path, tiny)
    assert len(rows) == 1
    assert reports_of([tmp_path], tmp_path, tiny) == ([], [])


FAKE = """#!{python}
import pathlib, shutil, sys
arguments = sys.argv[1:]
address = arguments[arguments.index("--") + 1]
pathlib.Path({log!r}).open("a").write(address + "\\n")
if address.endswith("gone"):
    sys.exit("ERROR: Video unavailable")
template = arguments[arguments.index("-o") + 1]
shutil.copy({film!r}, template.replace("%(id)s", address[-3:]).replace("%(ext)s", "mkv"))
"""


@pytest.fixture
def yt_dlp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A yt-dlp on the PATH that brings a film of 12 frames; the addresses it was asked for."""
    source = film(tmp_path / "brought.mkv", pan(12))
    log, script = tmp_path / "asked.txt", tmp_path / "bin" / "yt-dlp"
    script.parent.mkdir()
    script.write_text(FAKE.format(python=sys.executable, log=str(log), film=str(source)))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(script.parent))
    return log


def test_addresses_are_brought_by_yt_dlp_and_nothing_of_it_stays(
    yt_dlp: Path, tmp_path: Path
) -> None:
    names = tmp_path / "films.txt"
    names.write_text("https://example.org/--gone\nhttps://example.org/watch?v=abc\n")
    rows, (gone, here) = reports_of([names], tmp_path / "out")
    assert gone.problem == (
        "https://example.org/--gone: yt-dlp does not bring it (ERROR: Video unavailable)."
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


def test_an_address_that_is_refused_is_named_instead_of_the_file_that_came(
    yt_dlp: Path, tmp_path: Path
) -> None:
    large = HarvestSettings(height=720)
    _, (report,) = reports_of(["https://example.org/v/abc"], tmp_path / "out", large)
    assert report.problem.startswith("https://example.org/v/abc: 192x128 is too small")


def test_without_yt_dlp_addresses_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(video_sources, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install yt-dlp"):
        harvest.harvest(["https://example.org/a", tmp_path / "film.mp4"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(video_sources, "find_spec", lambda name: object())
    assert yt_dlp_command() == [sys.executable, "-m", "yt_dlp"]


def test_another_manifest_is_not_written_over(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("file,licence\na.mp4,CC0\n")
    with pytest.raises(InputError, match="line 2 is not of a manifest of clips"):
        harvest.harvest([scenes], tmp_path, SMALL)
    assert (tmp_path / "manifest.csv").read_text() == "file,licence\na.mp4,CC0\n"


def test_a_full_disk_stops_the_run_which_then_goes_on(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", full)
        with pytest.raises(DiskFullError):
            harvest.harvest([scenes], tmp_path, SMALL)
    assert list(tmp_path.iterdir()) == []
    assert len(harvest.harvest([scenes], tmp_path, SMALL)) == 6


def test_a_folder_that_cannot_be_written_is_named(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SharpreelError, match="cannot be written"):
        harvest.harvest([scenes], tmp_path / "file" / "out", SMALL)


def test_progress_is_told_while_a_film_is_read(scenes: Path, tmp_path: Path) -> None:
    told: list[HarvestReport] = []
    harvest.harvest([scenes], tmp_path, SMALL, told.append)
    assert [report.windows for report in told] == [1, 2, 3, 4, 5, 6, 6]
    assert [report.finished for report in told] == [False] * 6 + [True]
    assert told[0].seconds < told[5].seconds < 36 / 25
    assert told[0].of_seconds == pytest.approx(36 / 25)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_len": 1}, "clip_len must be 2 or more"),
        ({"per_video": 0}, "per_video 1 or more"),
        ({"height": 63}, "height must be even"),
        ({"least_shrink": 0.5}, "least_shrink must be 1 or more"),
    ],
)
def test_settings_that_make_no_clips_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HarvestSettings(**settings)
