"""testsets.py: published sets by name, in the layouts that their archives have."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpreel.data import testsets
from sharpreel.errors import InputError, UsageError
from sharpreel.evaluation.results import Evaluation
from sharpreel.media import images
from tests.support.evaluation import run_benchmark
from tests.support.videos import moving


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; the folder in it where data sets are looked for."""
    monkeypatch.setenv("SHARPREEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SHARPREEL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "data"


def clip(folder: Path, frames: int = 2, name: str = "{:08}.png", first: int = 0) -> None:
    folder.mkdir(parents=True)
    for k, frame in enumerate(moving((32, 32), frames), first):
        images.write_png(folder / name.format(k), frame)


def measured(name: str, protocol: str | None = None) -> Evaluation:
    return run_benchmark([], name, protocol=protocol, scale=4, temporal=False)


def test_vid4_is_found_where_fetch_unpacks_it(home: Path) -> None:
    for name in ("calendar", "city", "foliage", "walk"):
        clip(home / "vid4" / "Vid4" / "GT" / name, 1)
    found = measured("vid4")
    assert [c.clip for c in found.clips] == ["calendar", "city", "foliage", "walk"]
    assert found.protocol == "P1"
    assert found.settings["folder"] == str(home / "vid4" / "Vid4")


def test_reds4_is_four_clips_of_the_training_set_in_rgb(home: Path) -> None:
    for name in ("000", "001", "011", "015", "020", "021"):
        clip(home / "reds" / "train" / "train_sharp" / name, 1)
    found = measured("reds4")
    assert [c.clip for c in found.clips] == ["000", "011", "015", "020"]
    assert found.protocol == "P1-RGB"
    assert measured("reds4", "P1").protocol == "P1"


def test_a_missing_clip_of_reds4_is_named(home: Path) -> None:
    clip(home / "reds4" / "000", 1)
    with pytest.raises(InputError, match="reds4: clip 011 is not in it"):
        measured("reds4")


@pytest.mark.parametrize("listed", [True, False])
def test_vimeo90k_counts_the_middle_frame_of_the_listed_clips(home: Path, listed: bool) -> None:
    folder = home / "vimeo90k" / "vimeo_septuplet"
    for name in ("00001/0001", "00001/0002"):
        clip(folder / "sequences" / name, 7, "im{}.png", first=1)
    if listed:
        (folder / "sep_testlist.txt").write_text("00001/0002\n")
    found = measured("vimeo90k-t")
    assert [c.clip for c in found.clips] == ["00001/0001", "00001/0002"][listed:]
    assert found.protocol == "P1-Vimeo"
    assert [s.frame for s in found.clips[0].of("bicubic").frames] == [3]  # im4.png


def test_sets_without_a_url_are_found_in_sharpreel_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip(tmp_path / "sets" / "UDM10" / "archpeople", 1)
    clip(tmp_path / "sets" / "spmcs" / "car05_001" / "truth", 1)
    monkeypatch.setenv("SHARPREEL_DATA", str(tmp_path / "sets"))
    assert [c.clip for c in measured("udm10").clips] == ["archpeople"]
    assert [c.clip for c in measured("spmcs").clips] == ["car05_001"]


def test_an_existing_folder_wins_over_the_name_of_a_set(tmp_path: Path) -> None:
    clip(tmp_path / "reds4" / "own", 1)
    found = measured("reds4")
    assert [c.clip for c in found.clips] == ["own"]
    assert found.protocol == "P1"


@pytest.mark.parametrize("name", testsets.TEST_SETS)
def test_a_missing_set_is_one_line_that_states_how_to_get_it(name: str, home: Path) -> None:
    with pytest.raises(InputError, match=f"^{name}: not in {home}") as caught:
        measured(name)
    fetched = testsets.TEST_SETS[name].fetched
    way = f"sharpreel data fetch {fetched} -o {home / fetched}" if fetched else "by hand"
    assert way in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_fetched_name_is_a_data_set() -> None:
    from sharpreel.data import downloads

    for row in testsets.TEST_SETS.values():
        if row.fetched:
            try:
                downloads.dataset_named(row.fetched)
            except UsageError as e:
                pytest.fail(str(e))
