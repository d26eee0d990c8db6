"""Stores: decoding, LR versions, and several processes."""

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
from sharpreel.data.clips import ClipSource, find_clips
from sharpreel.data.store import (
    ClipStore,
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
from tests.support.footage import save_named_images
from tests.support.videos import count_frames, make_clip, moving


def test_a_store_holds_the_exact_frames_of_videos_and_images(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    clip = make_clip(tmp_path / "clips" / "a.mp4", frames=5)
    save_named_images(tmp_path / "clips" / "b", ["1.png", "2.png"])
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


def test_similar_clip_names_get_different_files(tmp_path: Path) -> None:
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


def test_unknown_clips_of_a_store_are_reported(tmp_path: Path) -> None:
    save_named_images(tmp_path / "clips" / "clip1", ["1.png"])
    store = prepare(find_clips(tmp_path / "clips"), tmp_path / "store")
    assert store.only(["clip1"]) == store
    with pytest.raises(InputError, match=r"no clip called clip2, b, c and 1 more\. Did you mean"):
        store.only(["clip1", "clip2", "b", "c", "d"])


def test_preparing_again_decodes_only_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        save_named_images(tmp_path / "clips" / name, ["1.png", "2.png"])
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


def test_a_clip_whose_file_has_changed_is_decoded_again(tmp_path: Path) -> None:
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


def test_an_interrupted_preparation_leaves_a_valid_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        save_named_images(tmp_path / "clips" / name, ["1.png", "2.png"])
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


def test_a_changed_byte_is_detected(tmp_path: Path) -> None:
    save_named_images(tmp_path / "clips" / "a", ["1.png"])
    store = prepare(find_clips(tmp_path / "clips"), tmp_path / "store")
    path = tmp_path / "store" / store.entries[0].file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="its SHA-256 is not that of the manifest"):
        store.verify()


def test_images_of_two_sizes_are_not_a_clip(tmp_path: Path) -> None:
    save_named_images(tmp_path / "clips" / "a", ["1.png"])
    images.write_png(tmp_path / "clips" / "a" / "2.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="frame 1 is 8x8, the frames before it are 32x24"):
        prepare(find_clips(tmp_path / "clips"), tmp_path / "store")


def test_a_folder_that_is_not_a_store_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="create one with `sharpreel data prepare`"):
        open_store(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "else"}))
    with pytest.raises(InputError, match="not a store"):
        open_store(tmp_path)


def test_an_lr_version_is_the_degraded_clip_and_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_named_images(tmp_path / "clips" / "a", ["1.png", "2.png"], size=(35, 26))
    store = prepare(find_clips(tmp_path / "clips"), tmp_path / "store")
    (clip,) = store.pairs(4)
    assert clip.hr.shape == (2, 24, 32, 3)
    for lr, hr in zip(clip.lr, clip.hr, strict=True):
        np.testing.assert_array_equal(lr, ops.resize(hr, 6, 8))
    assert {p.name for p in (tmp_path / "store").iterdir()} == {"manifest.json", "a.npy", "lock"}
    monkeypatch.setattr(degrade, "degrade", None)
    (again,) = store.pairs(4)
    np.testing.assert_array_equal(again.lr, clip.lr)


def test_a_store_prepared_again_does_not_use_lr_versions_of_the_old_one(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for clips, count in (("one", 3), ("two", 3), ("fewer", 2)):
        save_named_images(tmp_path / clips / "a", [f"{k}.png" for k in range(count)])
        if clips == "two":
            for path in (tmp_path / clips / "a").iterdir():
                images.write_png(path, images.read_rgb(path)[::-1])
        prepare(find_clips(tmp_path / clips), store)
        (clip,) = open_store(store).pairs(2)
        np.testing.assert_array_equal(clip.lr, degrade.degrade(np.asarray(clip.hr), 2)[1])
        shutil.rmtree(store)


def test_lr_versions_can_be_computed_from_inside_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_named_images(tmp_path / "clips" / "a", ["1.png"])
    prepare(find_clips(tmp_path / "clips"), tmp_path / "store")
    monkeypatch.chdir(tmp_path / "store")
    assert len(open_store(Path()).pairs(2)) == 1
    assert (tmp_path / "store.lr").is_dir()


def test_one_process_prepares_and_the_others_wait(tmp_path: Path) -> None:
    for name in "abcdef":
        save_named_images(tmp_path / "clips" / name, ["1.png", "2.png"], size=(320, 240))
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


def test_an_unwritable_store_is_reported(tmp_path: Path) -> None:
    save_named_images(tmp_path / "clips" / "a", ["1.png"])
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        prepare(find_clips(tmp_path / "clips"), tmp_path / "file" / "store")


def test_given_lr_versions_are_used_unchanged(tmp_path: Path) -> None:
    save_named_images(tmp_path / "hr" / "a", ["1.png", "2.png"], size=(32, 24))
    save_named_images(tmp_path / "lr" / "a", ["1.png", "2.png"], size=(16, 12))
    sources = find_clips(tmp_path / "hr", lr_folder=tmp_path / "lr")
    store = prepare(sources, tmp_path / "store")
    (clip,) = store.pairs(2, "given")
    np.testing.assert_array_equal(clip.lr, np.stack(list(moving((16, 12), 2))))
    with pytest.raises(UsageError, match="does not match 32x24 at scale 4"):
        store.pairs(4, "given")
    (tmp_path / "lr" / "a" / "2.png").unlink()
    with pytest.raises(InputError, match="missing, the low-resolution version of"):
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
    for frame in frames:  # each is a crop of the still, nothing is invented
        places = np.argwhere((still[:61, :92] == frame[0, 0]).all(axis=2))
        assert any((still[y : y + 240, x : x + 360] == frame).all() for y, x in places)


def test_a_clip_has_as_many_frames_as_another_decoder_counts(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=9)
    (loaded,) = load_clips([clip], 2)
    assert len(loaded.hr) == count_frames(clip) == 9
