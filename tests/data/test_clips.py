"""Clips in the layouts of data sets, their rights, and splits."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from sharpreel.data.clips import allowed, find_clips, split
from sharpreel.errors import InputError, UsageError
from tests.support.footage import save_named_images
from tests.support.videos import make_clip


def test_vimeo_septuplets_are_found_and_listed(tmp_path: Path) -> None:
    names = [f"im{k}.png" for k in range(1, 8)]
    for clip in ("00001/0001", "00001/0002", "00002/0001"):
        save_named_images(tmp_path / "sequences" / clip, names)
    found = find_clips(tmp_path)
    assert [s.name for s in found] == ["00001/0001", "00001/0002", "00002/0001"]
    assert [p.name for p in found[0].paths] == names
    (tmp_path / "sep_trainlist.txt").write_text("00001/0002\n\n00002/0001\n")
    listed = find_clips(tmp_path, tmp_path / "sep_trainlist.txt")
    assert [s.name for s in listed] == ["00001/0002", "00002/0001"]


def test_folders_of_images_are_clips_in_numerical_order(tmp_path: Path) -> None:
    save_named_images(tmp_path / "train_sharp" / "000", ["8.png", "9.png", "10.png"])
    save_named_images(tmp_path / "train_sharp" / "001", ["00000000.png"])
    found = find_clips(tmp_path / "train_sharp")
    assert [s.name for s in found] == ["000", "001"]
    assert [p.name for p in found[0].paths] == ["8.png", "9.png", "10.png"]


def test_a_folder_called_truth_is_not_the_clips_name(tmp_path: Path) -> None:
    save_named_images(tmp_path / "car05_001" / "truth", ["0001.png", "0002.png"])
    save_named_images(tmp_path / "GT" / "calendar", ["001.png"])
    assert [s.name for s in find_clips(tmp_path)] == ["calendar"]
    (tmp_path / "GT").rename(tmp_path / "elsewhere")
    assert "car05_001" in [s.name for s in find_clips(tmp_path)]


def test_a_list_may_name_single_frames(tmp_path: Path) -> None:
    save_named_images(tmp_path / "foliage", ["001.png", "002.png", "003.png"])
    (tmp_path / "foliage_test.txt").write_text("foliage/002.png\nfoliage/003.png  # the end\n")
    (found,) = find_clips(tmp_path, tmp_path / "foliage_test.txt")
    assert [p.name for p in found.paths] == ["002.png", "003.png"]


def test_a_list_with_missing_frames_is_rejected(tmp_path: Path) -> None:
    save_named_images(tmp_path / "foliage", ["001.png"])
    (tmp_path / "list.txt").write_text("foliage/001.png\nfoliage/009.png\nwalk\n")
    with pytest.raises(
        InputError, match=r"names clips that are not in .*: foliage/009.png, walk\."
    ):
        find_clips(tmp_path, tmp_path / "list.txt")


def test_videos_at_any_depth_are_clips_with_rights_from_manifests(tmp_path: Path) -> None:
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


def test_clips_that_differ_only_in_suffix_keep_it(tmp_path: Path) -> None:
    make_clip(tmp_path / "x.mp4", frames=2)
    make_clip(tmp_path / "y.mp4", frames=2)
    for name in ("x.mkv", "x.mp4.mkv"):
        shutil.copy(tmp_path / "x.mp4", tmp_path / name)
    save_named_images(tmp_path / "y", ["1.png"])
    names = {source.name: source.paths[0].name for source in find_clips(tmp_path)}
    assert names == {
        "x.mkv": "x.mkv",
        "x.mp4": "x.mp4",
        "x.mp4.mkv": "x.mp4.mkv",
        "y": "1.png",
        "y.mp4": "y.mp4",
    }
    (tmp_path / "list.txt").write_text("x.mp4\n")
    assert [s.name for s in find_clips(tmp_path, tmp_path / "list.txt")] == ["x.mp4"]


def test_an_empty_list_is_reported(tmp_path: Path) -> None:
    save_named_images(tmp_path / "foliage", ["001.png"])
    (tmp_path / "list.txt").write_text("\n# foliage\n")
    with pytest.raises(InputError, match="the list is empty"):
        find_clips(tmp_path, tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="not a readable list"):
        find_clips(tmp_path, tmp_path / "list.txt")


def test_a_folder_without_clips_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no videos and no folders of images"):
        find_clips(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        find_clips(tmp_path / "nowhere")


def test_a_split_depends_on_the_seed_alone() -> None:
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


def test_too_few_clips_for_the_parts_are_rejected() -> None:
    with pytest.raises(UsageError, match="2 clips cannot be split into 3 parts"):
        split(["a", "b"])
    assert split(["a", "b"], shares=(0.5, 0.5, 0))["test"] == []


@pytest.mark.parametrize("shares", [(0, 0, 0), (-1, 1, 1), (float("nan"), 1, 1)])
def test_invalid_shares_are_rejected(shares: tuple[float, float, float]) -> None:
    with pytest.raises(UsageError, match="give three numbers of 0 or more"):
        split(["a", "b", "c"], shares=shares)
