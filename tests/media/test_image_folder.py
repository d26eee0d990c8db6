"""Folders of images in and out, with depth and transparency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sharpreel import ops
from sharpreel.errors import InputError, UsageError
from sharpreel.media.image_folder import probe_folder
from sharpreel.pipeline.options import UpscaleOptions
from sharpreel.pipeline.plan import make_plan
from tests.support.image_folders import enlarge, folder_of, names_in, near
from tests.support.terminal import sharpreel
from tests.support.videos import ffmpeg, make_clip, moving, read_png


def test_images_keep_their_names_and_are_upscaled_by_bicubic(tmp_path: Path) -> None:
    images = list(moving((40, 30), 3))
    names = ["shot 2.png", "shot 10.png", "ähnlich.png"]
    source = folder_of(tmp_path / "in", images, names)
    result = enlarge(source, tmp_path / "out")
    assert result.frames == 3
    assert names_in(tmp_path / "out") == sorted(names)
    for name, image in zip(names, images, strict=True):
        assert near(read_png(tmp_path / "out" / name), ops.resize(image, 60, 80), 1)


def test_transparency_of_images_is_kept(tmp_path: Path) -> None:
    y, x = np.mgrid[0:24, 0:32]
    alpha = ((x + y) * 4).astype(np.uint8)[..., None]
    images = [np.concatenate([image, alpha], axis=2) for image in moving((32, 24), 2)]
    source = folder_of(tmp_path / "in", images, ["1.png", "2.png"])
    enlarge(source, tmp_path / "out")
    for number, image in enumerate(images, 1):
        made = read_png(tmp_path / "out" / f"{number}.png", "rgba")
        assert near(made[..., :3], ops.resize(image[..., :3], 48, 64), 1)
        np.testing.assert_array_equal(made[..., 3:], ops.resize(alpha, 48, 64))


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    image = next(iter(moving((32, 24), 1, deep=True)))
    source = folder_of(tmp_path / "in", [image], ["deep.png"])
    enlarge(source, tmp_path / "out")
    made = read_png(tmp_path / "out" / "deep.png", "rgb48le")
    assert made.dtype == np.uint16
    assert len(np.unique(made)) > 1000
    assert near(made, ops.resize(image, 48, 64), 24)


def test_the_network_gets_images_in_their_order(tmp_path: Path) -> None:
    """A recurrent network keeps a state: the output differs from that of each image alone."""
    images = list(moving((48, 48), 3))
    together = folder_of(tmp_path / "in", images, ["9.png", "10.png", "11.png"])
    alone = folder_of(tmp_path / "alone", images[-1:], ["11.png"])
    first = folder_of(tmp_path / "first", images[:1], ["9.png"])
    for source in (together, alone, first):
        enlarge(source, source.with_name(f"{source.name}-out"), model="reel-fast")
    last = [read_png(tmp_path / f"{n}-out" / "11.png") for n in ("in", "alone")]
    assert (last[0] != last[1]).any()
    begin = [read_png(tmp_path / f"{n}-out" / "9.png") for n in ("in", "first")]
    np.testing.assert_array_equal(begin[0], begin[1])


def test_the_folder_is_named_after_network_and_scale(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", list(moving((16, 16), 1)), ["a.png"])
    assert enlarge(source).output == tmp_path / "in_bicubic_x2"
    assert names_in(tmp_path) == ["in", "in_bicubic_x2"]


def test_an_exact_size_is_met(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", list(moving((32, 24), 1)), ["a.png"])
    enlarge(source, tmp_path / "out", size=(51, 37))
    assert read_png(tmp_path / "out" / "a.png").shape == (37, 51, 3)


def test_images_of_different_sizes_are_refused_by_name(tmp_path: Path) -> None:
    images = [np.zeros((24, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)]
    source = folder_of(tmp_path / "in", images, ["a.png", "b.png"])
    with pytest.raises(InputError, match=r"b\.png: is 32x32, the images before it are 32x24"):
        enlarge(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_an_image_is_refused_by_name(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", list(moving((16, 16), 1)), ["a.png"])
    (source / "b.png").write_text("no image")
    with pytest.raises(InputError, match=r"b\.png: not a readable image"):
        enlarge(source, tmp_path / "out")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="no videos and no PNG or JPEG images"):
        enlarge(tmp_path / "in", tmp_path / "out")


def test_two_images_that_would_get_one_name_are_refused(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", list(moving((16, 16), 1)), ["a.png"])
    ffmpeg("-i", source / "a.png", "-pix_fmt", "yuvj420p", source / "a.jpg")
    with pytest.raises(InputError, match="two images would get the same name"):
        enlarge(source, tmp_path / "out")


def test_a_folder_does_not_become_a_video_file(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", list(moving((16, 16), 1)), ["a.png"])
    with pytest.raises(UsageError, match="a folder of images becomes a folder"):
        enlarge(source, tmp_path / "out.mp4")


def test_in_an_existing_folder_only_images_of_the_same_name_are_replaced(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", list(moving((16, 16), 1)), ["a.png"])
    out = folder_of(tmp_path / "out", list(moving((16, 16), 2)), ["a.png", "other.png"])
    (out / "sub").mkdir()
    with pytest.raises(UsageError, match=r"exists\. Give `overwrite`"):
        enlarge(source, out)
    assert read_png(out / "a.png").shape[:2] == (16, 16)
    plan = make_plan(source, out, UpscaleOptions(model="bicubic", overwrite=True))
    assert f"{out} holds 2 other files, which stay there" in plan.notes
    enlarge(source, out, overwrite=True)
    assert names_in(out) == ["a.png", "other.png", "sub"]
    assert read_png(out / "a.png").shape[:2] == (32, 32)
    assert read_png(out / "other.png").shape[:2] == (16, 16)


def test_an_output_folder_around_the_input_keeps_its_images(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    source = folder_of(tmp_path / "photos" / "in", list(moving((16, 16), 1)), ["a.png"])
    (tmp_path / "photos" / "notes.txt").write_text("mine")
    enlarge(source, tmp_path / "photos", overwrite=True)
    assert names_in(tmp_path / "photos") == ["a.png", "in", "notes.txt"]
    assert names_in(source) == ["a.png"]


def test_the_current_folder_can_be_the_input(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", list(moving((16, 16), 1)), ["a.png"])
    done = sharpreel("upscale", ".", "-m", "bicubic", cwd=source)
    assert done.returncode == 0, done.stderr
    assert names_in(tmp_path / "in_bicubic_x2") == ["a.png"]
    again = sharpreel("upscale", tmp_path / "in_bicubic_x2", "-o", ".", "-m", "bicubic", cwd=source)
    assert (again.returncode, "exists" in again.stderr) == (2, True)


def test_the_deepest_image_and_any_transparency_decide(tmp_path: Path) -> None:
    plain = next(iter(moving((16, 16), 1)))
    deep = plain.astype(np.uint16) * 257 + 5
    clear = np.concatenate([plain, np.full((16, 16, 1), 100, np.uint8)], axis=2)
    source = folder_of(tmp_path / "in", [plain, deep, clear], ["1.png", "2.png", "3.png"])
    info = probe_folder(source)
    assert (info.bits, info.alpha) == (16, True)
    enlarge(source, tmp_path / "out")
    made = [read_png(tmp_path / "out" / f"{k}.png", "rgba64be") for k in (1, 2, 3)]
    assert [int(m[..., 3].max()) for m in made] == [65535, 65535, 100 * 257]
    small = [int(m[..., :3].astype(int).sum() % 257) for m in made]
    assert small[1] != 0  # more than eight bits came through


def test_images_of_several_sizes_are_found_before_the_run(tmp_path: Path) -> None:
    shapes = [(16, 16), (16, 16), (24, 16)]
    made = [next(iter(moving(shape, 1))) for shape in shapes]
    source = folder_of(tmp_path / "in", made, ["1.png", "2.png", "3.png"])
    with pytest.raises(InputError, match=r"3\.png: is 24x16, the images before it are 16x16"):
        make_plan(source, tmp_path / "out", UpscaleOptions(model="bicubic"))


def test_a_video_becomes_numbered_images(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=7)
    plan = make_plan(clip, tmp_path / "out", UpscaleOptions(model="bicubic"))
    assert "frames become numbered PNG images; sound and timestamps are not kept" in plan.notes
    enlarge(clip, tmp_path / "out")
    assert names_in(tmp_path / "out") == [f"{k:08d}.png" for k in range(7)]
    for k, image in enumerate(moving((64, 48), 7)):
        made = read_png(tmp_path / "out" / f"{k:08d}.png")[::2, ::2]
        assert np.abs(made.astype(int) - image).mean() < 12


@pytest.mark.parametrize("codec", ["ffv1", "libvpx-vp9"])
def test_a_transparent_video_becomes_images_with_alpha(tmp_path: Path, codec: str) -> None:
    frame = np.zeros((32, 32, 4), np.uint8)
    frame[..., :3] = (200, 100, 50)
    frame[:, :16, 3] = 255
    clip = tmp_path / ("in.webm" if codec == "libvpx-vp9" else "in.mkv")
    kind = "yuva420p" if codec == "libvpx-vp9" else "bgra"
    ffmpeg(
        *("-f", "rawvideo", "-s", "32x32", "-pix_fmt", "rgba", "-i", "-", "-c:v", codec),
        *("-pix_fmt", kind, clip),
        stdin=frame.tobytes() * 4,
    )
    enlarge(clip, tmp_path / "out")
    assert len(names_in(tmp_path / "out")) == 4
    made = read_png(tmp_path / "out" / "00000003.png", "rgba")
    assert made.shape == (64, 64, 4)
    assert made[:, :24, 3].min() > 245
    assert made[:, 40:, 3].max() < 10
    np.testing.assert_allclose(made[:, :24, :3].mean(axis=(0, 1)), (200, 100, 50), atol=4)
