"""data.py: clips found, split, stored, and cut to batches."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data

from sharpreel import ops
from sharpreel.data import degrade, store
from sharpreel.data import store as store_module
from sharpreel.data.clips import ClipSource, allowed, find_clips, split
from sharpreel.data.sampling import (
    blur_score,
    check_clips,
    choose_target,
    noise_score,
    sample_batch,
    sample_bursts,
)
from sharpreel.data.store import (
    Clip,
    ClipStore,
    Frames,
    StoredClip,
    _decoded,
    _store_clip,
    load_clips,
    open_store,
    prepare,
)
from sharpreel.errors import InputError, UsageError
from sharpreel.media import images
from sharpreel.media.reader import read_frames
from tests.support.videos import count_frames, make_clip, moving


def save_pictures(folder: Path, names: list[str], size: tuple[int, int] = (32, 24)) -> None:
    folder.mkdir(parents=True)
    for name, pixels in zip(names, moving(size, len(names)), strict=True):
        images.write_png(folder / name, pixels)


# Layouts.


def test_vimeo_septuplets_are_found_and_listed(tmp_path: Path) -> None:
    names = [f"im{k}.png" for k in range(1, 8)]
    for clip in ("00001/0001", "00001/0002", "00002/0001"):
        save_pictures(tmp_path / "sequences" / clip, names)
    found = find_clips(tmp_path)
    assert [s.name for s in found] == ["00001/0001", "00001/0002", "00002/0001"]
    assert [p.name for p in found[0].paths] == names
    (tmp_path / "sep_trainlist.txt").write_text("00001/0002\n\n00002/0001\n")
    listed = find_clips(tmp_path, tmp_path / "sep_trainlist.txt")
    assert [s.name for s in listed] == ["00001/0002", "00002/0001"]


def test_folders_of_pictures_are_clips_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    save_pictures(tmp_path / "train_sharp" / "000", ["8.png", "9.png", "10.png"])
    save_pictures(tmp_path / "train_sharp" / "001", ["00000000.png"])
    found = find_clips(tmp_path / "train_sharp")
    assert [s.name for s in found] == ["000", "001"]
    assert [p.name for p in found[0].paths] == ["8.png", "9.png", "10.png"]


def test_a_folder_called_truth_is_not_the_clips_name(tmp_path: Path) -> None:
    save_pictures(tmp_path / "car05_001" / "truth", ["0001.png", "0002.png"])
    save_pictures(tmp_path / "GT" / "calendar", ["001.png"])
    assert [s.name for s in find_clips(tmp_path)] == ["calendar"]
    (tmp_path / "GT").rename(tmp_path / "elsewhere")
    assert "car05_001" in [s.name for s in find_clips(tmp_path)]


def test_a_list_may_name_single_frames(tmp_path: Path) -> None:
    save_pictures(tmp_path / "foliage", ["001.png", "002.png", "003.png"])
    (tmp_path / "foliage_test.txt").write_text("foliage/002.png\nfoliage/003.png  # the end\n")
    (found,) = find_clips(tmp_path, tmp_path / "foliage_test.txt")
    assert [p.name for p in found.paths] == ["002.png", "003.png"]


def test_a_list_that_names_missing_frames_is_refused(tmp_path: Path) -> None:
    save_pictures(tmp_path / "foliage", ["001.png"])
    (tmp_path / "list.txt").write_text("foliage/001.png\nfoliage/009.png\nwalk\n")
    with pytest.raises(InputError, match=r"names what is not in .*: foliage/009.png, walk\."):
        find_clips(tmp_path, tmp_path / "list.txt")


def test_videos_at_any_depth_are_clips_and_manifests_tell_their_rights(tmp_path: Path) -> None:
    (tmp_path / "train" / "deep").mkdir(parents=True)
    make_clip(tmp_path / "train" / "a.mp4", frames=2)
    make_clip(tmp_path / "train" / "deep" / "b.mp4", frames=2)
    (tmp_path / "MANIFEST.csv").write_text("file,rights\ntrain/a.mp4,noncommercial\n")
    found = find_clips(tmp_path / "train")
    assert [(s.name, s.rights) for s in found] == [("a", "noncommercial"), ("deep/b", "unknown")]
    kept, rights = allowed(found)
    assert [s.name for s in kept] == ["deep/b"]
    assert rights == {"unknown": 1}


def test_a_manifest_is_found_from_wherever_the_clips_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train" / "deep").mkdir(parents=True)
    make_clip(tmp_path / "train" / "deep" / "b.mp4", frames=2)
    (tmp_path / "MANIFEST.csv").write_text("file,rights\ntrain/deep/b.mp4,noncommercial\n")
    (tmp_path / "train" / "manifest.csv").write_text("file,rights\ndeep/b.mp4,unknown\n")
    monkeypatch.chdir(tmp_path / "train")
    for folder in (Path(), Path("deep"), Path(".."), tmp_path, tmp_path / "train" / "deep"):
        (found,) = find_clips(folder)
        assert found.rights == "noncommercial", folder


def test_clips_that_differ_in_their_suffix_alone_keep_it(tmp_path: Path) -> None:
    make_clip(tmp_path / "x.mp4", frames=2)
    make_clip(tmp_path / "y.mp4", frames=2)
    for name in ("x.mkv", "x.mp4.mkv"):
        shutil.copy(tmp_path / "x.mp4", tmp_path / name)
    save_pictures(tmp_path / "y", ["1.png"])
    names = {source.name: source.paths[0].name for source in find_clips(tmp_path)}
    assert names == {"x.mkv": "x.mkv", "x.mp4": "x.mp4", "x.mp4.mkv": "x.mp4.mkv",
                     "y": "1.png", "y.mp4": "y.mp4"}  # fmt: skip
    (tmp_path / "list.txt").write_text("x.mp4\n")
    assert [s.name for s in find_clips(tmp_path, tmp_path / "list.txt")] == ["x.mp4"]


def test_an_empty_list_is_said(tmp_path: Path) -> None:
    save_pictures(tmp_path / "foliage", ["001.png"])
    (tmp_path / "list.txt").write_text("\n# foliage\n")
    with pytest.raises(InputError, match="the list is empty"):
        find_clips(tmp_path, tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="not a readable list"):
        find_clips(tmp_path, tmp_path / "list.txt")


def test_a_folder_without_clips_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no videos and no folders of pictures"):
        find_clips(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        find_clips(tmp_path / "nowhere")


# Splitting.


def test_clips_are_dealt_whole_and_by_the_seed_alone() -> None:
    names = [f"clip{k}" for k in range(40)]
    parts = split(names)
    assert [len(parts[key]) for key in ("train", "val", "test")] == [32, 4, 4]
    assert sorted(itertools.chain.from_iterable(parts.values())) == sorted(names)
    assert split(names[::-1]) == parts
    assert split(names, seed=1) != parts


@pytest.mark.parametrize("count", [3, 4, 5, 9])
def test_every_part_gets_a_clip(count: int) -> None:
    parts = split([str(k) for k in range(count)])
    assert min(len(part) for part in parts.values()) >= 1
    assert sum(len(part) for part in parts.values()) == count


def test_too_few_clips_for_the_parts_are_refused() -> None:
    with pytest.raises(UsageError, match="2 clips cannot be split into 3 parts"):
        split(["a", "b"])
    assert split(["a", "b"], shares=(0.5, 0.5, 0))["test"] == []


@pytest.mark.parametrize("shares", [(0, 0, 0), (-1, 1, 1), (float("nan"), 1, 1)])
def test_shares_that_are_none_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="give three numbers of 0 or more"):
        split(["a", "b", "c"], shares=shares)


# The store.


def test_a_store_holds_the_frames_of_videos_and_pictures_exactly(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    clip = make_clip(tmp_path / "clips" / "a.mp4", frames=5)
    save_pictures(tmp_path / "clips" / "b", ["1.png", "2.png"])
    store = prepare(find_clips(tmp_path / "clips"), tmp_path / "store")
    assert store.names == ["a", "b"]
    by_name = {e.name: store.frames(e) for e in store.entries}
    np.testing.assert_array_equal(by_name["a"], read_frames(clip))
    np.testing.assert_array_equal(by_name["b"], np.stack(list(moving((32, 24), 2))))
    assert isinstance(by_name["a"], np.memmap)
    store.verify()
    again = open_store(tmp_path / "store")
    assert again == store
    assert again.sha256 == store.sha256


def test_clips_whose_names_are_alike_have_files_of_their_own(tmp_path: Path) -> None:
    names = ["A b", "a b", "a_b", "given-c", "c"]
    for k, name in enumerate(names):
        pixels = np.full((8, 8, 3), k, np.uint8)
        for kind in ("hr", "lr"):
            (tmp_path / kind / name).mkdir(parents=True)
            for frame in ("1.png", "2.png"):
                images.write_png(tmp_path / kind / name / frame, pixels)
    sources = find_clips(tmp_path / "hr", lr_folder=tmp_path / "lr")
    for wanted in (sources, sources[::-1]):
        store = prepare(wanted, tmp_path / "store")
        store.verify()
        assert len(store.entries) == 5
        for clip in store.pairs(1, "given"):
            assert clip.lr[0, 0, 0, 0] == clip.hr[0, 0, 0, 0] == names.index(clip.name)
        shutil.rmtree(tmp_path / "store")


def test_a_store_has_only_the_clips_it_has(tmp_path: Path) -> None:
    save_pictures(tmp_path / "clips" / "clip1", ["1.png"])
    store = prepare(find_clips(tmp_path / "clips"), tmp_path / "store")
    assert store.only(["clip1"]) == store
    with pytest.raises(InputError, match=r"no clip called clip2, b, c and 1 more\. Did you mean"):
        store.only(["clip1", "clip2", "b", "c", "d"])


def test_preparing_again_decodes_only_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        save_pictures(tmp_path / "clips" / name, ["1.png", "2.png"])
    sources = find_clips(tmp_path / "clips")
    prepare(sources[:1], tmp_path / "store")
    made: list[str] = []
    real = _store_clip

    def watched(source: ClipSource, *rest: Any) -> StoredClip:
        made.append(source.name)
        return real(source, *rest)

    monkeypatch.setattr(store_module, "_store_clip", watched)
    store = prepare(sources, tmp_path / "store")
    assert made == ["b"]
    assert store.names == ["a", "b"]


def test_a_clip_whose_file_has_become_another_is_decoded_anew(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, frames in (("a", 3), ("b", 4)):
        make_clip(tmp_path / "in" / f"{name}.mp4", frames=frames, audio=False)

    def prepared() -> ClipStore:
        return prepare(find_clips(tmp_path / "in"), tmp_path / "store")

    first = prepared()
    make_clip(tmp_path / "in" / "a.mp4", frames=7, audio=False)
    second = prepared()
    assert [entry.frames for entry in second.entries] == [7, 4]
    assert second.entries[1] == first.entries[1]
    assert open_store(tmp_path / "store") == second
    second.verify()


def test_a_broken_preparation_leaves_a_whole_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        save_pictures(tmp_path / "clips" / name, ["1.png", "2.png"])
    sources = find_clips(tmp_path / "clips")
    real = _decoded

    def breaks(paths: tuple[Path, ...], most: int | None) -> object:
        for k, frame in enumerate(real(paths, most)):
            if "b" in paths[0].parts and k == 1:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(store, "_decoded", breaks)
    with pytest.raises(KeyboardInterrupt):
        prepare(sources, tmp_path / "store")
    assert open_store(tmp_path / "store").names == ["a"]
    assert not list((tmp_path / "store").glob("*.part"))
    monkeypatch.setattr(store, "_decoded", real)
    prepare(sources, tmp_path / "store").verify()


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    save_pictures(tmp_path / "clips" / "a", ["1.png"])
    store = prepare(find_clips(tmp_path / "clips"), tmp_path / "store")
    path = tmp_path / "store" / store.entries[0].file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="not the bytes of the manifest"):
        store.verify()


def test_pictures_of_two_sizes_are_no_clip(tmp_path: Path) -> None:
    save_pictures(tmp_path / "clips" / "a", ["1.png"])
    images.write_png(tmp_path / "clips" / "a" / "2.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="frame 1 is 8x8, those before it are 32x24"):
        prepare(find_clips(tmp_path / "clips"), tmp_path / "store")


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make one with `sharpreel data prepare`"):
        open_store(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "else"}))
    with pytest.raises(InputError, match="not a store"):
        open_store(tmp_path)


def test_a_twin_is_the_degradation_of_its_clip_and_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pictures(tmp_path / "clips" / "a", ["1.png", "2.png"], size=(35, 26))
    store = prepare(find_clips(tmp_path / "clips"), tmp_path / "store")
    (clip,) = store.pairs(4)
    assert clip.hr.shape == (2, 24, 32, 3)
    for lr, hr in zip(clip.lr, clip.hr, strict=True):
        np.testing.assert_array_equal(lr, ops.resize(hr, 6, 8))
    assert {p.name for p in (tmp_path / "store").iterdir()} == {"manifest.json", "a.npy", "lock"}
    monkeypatch.setattr(degrade, "degrade", None)
    (again,) = store.pairs(4)
    np.testing.assert_array_equal(again.lr, clip.lr)


def test_a_store_made_anew_does_not_take_the_twins_of_the_old_one(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for clips, count in (("one", 3), ("two", 3), ("fewer", 2)):
        save_pictures(tmp_path / clips / "a", [f"{k}.png" for k in range(count)])
        if clips == "two":
            for path in (tmp_path / clips / "a").iterdir():
                images.write_png(path, images.read_rgb(path)[::-1])
        prepare(find_clips(tmp_path / clips), store)
        (clip,) = open_store(store).pairs(2)
        np.testing.assert_array_equal(clip.lr, degrade.degrade(np.asarray(clip.hr), 2)[1])
        shutil.rmtree(store)


def test_a_store_is_reduced_from_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pictures(tmp_path / "clips" / "a", ["1.png"])
    prepare(find_clips(tmp_path / "clips"), tmp_path / "store")
    monkeypatch.chdir(tmp_path / "store")
    assert len(open_store(Path()).pairs(2)) == 1
    assert (tmp_path / "store.lr").is_dir()


def test_one_process_prepares_and_the_others_wait(tmp_path: Path) -> None:
    for name in "abcdef":
        save_pictures(tmp_path / "clips" / name, ["1.png", "2.png"], size=(320, 240))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.npy.0badcafe.part").write_bytes(b"of a process that was killed")
    code = (
        "import sys, time; from pathlib import Path; from sharpreel.data import clips, store\n"
        "folder, target, start = sys.argv[1:]\n"
        "while not Path(start).exists(): time.sleep(0.01)\n"
        "made = store.prepare(clips.find_clips(Path(folder)), Path(target)); made.pairs(2, 'bd')"
    )
    words = [tmp_path / "clips", tmp_path / "store", tmp_path / "start"]
    started = [subprocess.Popen([sys.executable, "-c", code, *words]) for _ in range(3)]
    time.sleep(1.5)
    (tmp_path / "start").touch()
    assert [process.wait(60) for process in started] == [0, 0, 0]
    store = open_store(tmp_path / "store")
    assert store.names == list("abcdef")
    store.verify()
    assert not list(tmp_path.rglob("*.part"))


def test_a_store_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    save_pictures(tmp_path / "clips" / "a", ["1.png"])
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        prepare(find_clips(tmp_path / "clips"), tmp_path / "file" / "store")


def test_given_twins_are_used_as_they_are(tmp_path: Path) -> None:
    save_pictures(tmp_path / "hr" / "a", ["1.png", "2.png"], size=(32, 24))
    save_pictures(tmp_path / "lr" / "a", ["1.png", "2.png"], size=(16, 12))
    sources = find_clips(tmp_path / "hr", lr_folder=tmp_path / "lr")
    store = prepare(sources, tmp_path / "store")
    (clip,) = store.pairs(2, "given")
    np.testing.assert_array_equal(clip.lr, np.stack(list(moving((16, 12), 2))))
    with pytest.raises(UsageError, match="does not go with 32x24 at factor 4"):
        store.pairs(4, "given")
    (tmp_path / "lr" / "a" / "2.png").unlink()
    with pytest.raises(InputError, match="missing, the low-resolution twin of"):
        find_clips(tmp_path / "hr", lr_folder=tmp_path / "lr")


def test_a_camera_moves_smoothly_over_a_still(tmp_path: Path) -> None:
    (tmp_path / "stills").mkdir()
    images.write_png(tmp_path / "stills" / "cat.png", skimage.data.chelsea())
    sources = find_clips(tmp_path / "stills", stills=True)
    store = prepare(sources, tmp_path / "store", max_frames=12, seed=5)
    frames = store.frames(store.entries[0])
    assert frames.shape == (12, 240, 360, 3)
    assert any((a != b).any() for a, b in itertools.pairwise(frames))
    still = skimage.data.chelsea()
    for frame in frames:  # each is a crop of the picture, nothing made up
        places = np.argwhere((still[:61, :92] == frame[0, 0]).all(axis=2))
        assert any((still[y : y + 240, x : x + 360] == frame).all() for y, x in places)


# Batches.


def clips_of(size: tuple[int, int], frames: int = 6, scale: int = 2) -> list[Clip]:
    hr = np.stack(list(moving(size, frames)))
    return [Clip("a", *degrade.degrade(hr, scale))]


def test_a_batch_is_named_by_seed_and_step_and_its_crops_match() -> None:
    clips = clips_of((96, 80))
    lr, hr = sample_batch(clips, 2, 4, 3, 16, seed=7, step=11)
    assert lr.shape == (4, 3, 3, 16, 16)
    assert hr.shape == (4, 3, 3, 32, 32)
    again = sample_batch(clips, 2, 4, 3, 16, seed=7, step=11)
    np.testing.assert_array_equal(lr, again[0])
    assert (lr != sample_batch(clips, 2, 4, 3, 16, seed=7, step=12)[0]).any()
    for n in range(4):  # away from the crop's border, reducing the hr crop gives the lr crop
        reduced = ops.resize(hr[n, 0].transpose(1, 2, 0), 16, 16).transpose(2, 0, 1)
        inside = np.abs(reduced.astype(int) - lr[n, 0])[:, 3:-3, 3:-3]
        assert inside.max() <= 1


def test_several_processes_share_one_batch() -> None:
    clips = clips_of((96, 80))
    whole = sample_batch(clips, 2, 5, 2, 16, 1, 2)
    parts = [sample_batch(clips, 2, 5, 2, 16, 1, 2, (k, 2)) for k in range(2)]
    for together, first, second in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(together[0::2], first)
        np.testing.assert_array_equal(together[1::2], second)


def test_all_eight_symmetries_and_both_directions_of_time_come_up() -> None:
    hr = np.zeros((2, 32, 32, 3), np.uint8)
    hr[0, :16, :8] = 200  # one corner, longer than wide: no symmetry keeps it
    hr[1] = hr[0] // 2
    clips = [Clip("a", hr, hr[:, ::2, ::2])]
    seen = {sample_batch(clips, 2, 1, 2, 16, 0, step)[0].tobytes() for step in range(200)}
    assert len(seen) == 16


def test_a_clip_that_is_too_short_goes_on_backwards() -> None:
    hr = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    lr, _ = sample_batch([Clip("a", hr, hr[:, ::2, ::2])], 2, 1, 7, 16, 0, 0)
    assert list(lr[0, :, 0, 0, 0]) in ([0, 1, 2, 1, 0, 1, 2], [2, 1, 0, 1, 2, 1, 0])


def test_videos_smaller_than_the_patch_are_refused_in_words() -> None:
    with pytest.raises(UsageError, match="patch of 64 pixels: reduced they are 48x40"):
        check_clips(clips_of((96, 80)), 64)


# Bursts.


def burst(noisy: list[float], seed: int = 0) -> Frames:
    """Scans of one place, each with scan-line noise of so many levels."""
    rng = np.random.default_rng(seed)
    clean = skimage.data.camera()[::4, ::4].astype(float)
    scans = [clean + rng.normal(0, level, (128, 1)) for level in noisy]
    levels: Frames = np.clip(np.stack(scans), 0, 255).astype(np.uint8)
    return levels[..., None].repeat(3, axis=3)


def test_scan_lines_raise_the_noise_score_and_blur_lowers_the_other() -> None:
    clean, noisy = burst([0, 20])
    assert noise_score(noisy) > noise_score(clean) + 0.05
    soft = ops.resize(ops.resize(clean, 32, 32), 128, 128)
    assert blur_score(soft) < blur_score(clean) / 4


def test_the_least_noisy_scan_is_the_target_and_the_next_the_reference() -> None:
    order = choose_target(burst([12, 0.5, 6, 1.5, 9]))
    assert order[:2] == [1, 3]
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_a_burst_becomes_grey_windows_with_the_reference_in_the_middle() -> None:
    scans = burst([12, 0.5, 6, 1.5, 9, 10, 11])
    lr, hr = sample_bursts([scans], 4, 5, 32, seed=0, step=3)
    assert lr.shape == (4, 5, 1, 32, 32)
    assert hr.shape == (4, 1, 1, 32, 32)
    for n in range(4):
        distances = [np.abs(lr[n, k, 0].astype(float) - hr[n, 0, 0]).mean() for k in range(5)]
        assert int(np.argmin(distances)) == 2
    again = sample_bursts([scans], 4, 5, 32, seed=0, step=3)
    np.testing.assert_array_equal(lr, again[0])


def test_a_clip_is_counted_as_another_decoder_counts_it(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=9)
    (loaded,) = load_clips([clip], 2)
    assert len(loaded.hr) == count_frames(clip) == 9
