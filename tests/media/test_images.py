"""PNG and JPEG files are read and written exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sharpreel import ops
from sharpreel.media import images
from tests.support.image_folders import enlarge, folder_of, names_in, near
from tests.support.videos import ffmpeg, moving, read_png


def test_numbers_in_names_count_as_numbers(tmp_path: Path) -> None:
    names = ["a10.png", "a9.png", "a100.png", "b1.png"]
    folder_of(tmp_path / "in", list(moving((16, 16), 4)), names)
    found = images.image_files(tmp_path / "in")
    assert [p.name for p in found] == ["a9.png", "a10.png", "a100.png", "b1.png"]


@pytest.mark.parametrize(("deep", "channels"), [(False, 3), (False, 4), (True, 3), (True, 4)])
def test_a_png_holds_exactly_the_pixels_it_was_made_of(
    tmp_path: Path, deep: bool, channels: int
) -> None:
    dtype = np.uint16 if deep else np.uint8
    pixels = np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (7, 13, channels), dtype)
    images.write_png(tmp_path / "a.png", pixels)
    kind = {3: "rgb48le", 4: "rgba64le"}[channels] if deep else {3: "rgb24", 4: "rgba"}[channels]
    np.testing.assert_array_equal(read_png(tmp_path / "a.png", kind), pixels)


def test_jpeg_images_become_png_of_the_right_colour(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "png", [np.full((32, 32, 3), (200, 60, 30), np.uint8)], ["a.png"])
    (tmp_path / "in").mkdir()
    ffmpeg("-i", folder / "a.png", "-pix_fmt", "yuvj420p", "-q:v", "1", tmp_path / "in" / "a.jpg")
    enlarge(tmp_path / "in", tmp_path / "out")
    assert names_in(tmp_path / "out") == ["a.png"]
    made = read_png(tmp_path / "out" / "a.png")
    assert made.shape == (64, 64, 3)
    np.testing.assert_allclose(made.mean(axis=(0, 1)), (200, 60, 30), atol=3)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_images_are_upright_for_every_exif_orientation(tmp_path: Path, suffix: str) -> None:
    """As PIL's exif_transpose turns them."""
    y, x = np.mgrid[0:24, 0:40]
    image = Image.fromarray(np.stack([x * 6, y * 10, (x + y) * 3], axis=2).astype(np.uint8))
    for orientation in range(1, 9):
        exif = image.getexif()
        exif[0x0112] = orientation
        source = tmp_path / f"in{orientation}"
        source.mkdir()
        image.save(source / f"a.{suffix}", exif=exif)
        with Image.open(source / f"a.{suffix}") as stored:
            wanted = np.asarray(ImageOps.exif_transpose(stored))
        assert near(images.read_rgb(source / f"a.{suffix}"), wanted, 6)
        enlarge(source, tmp_path / f"out{orientation}")
        made = read_png(tmp_path / f"out{orientation}" / "a.png")
        assert near(made, ops.resize(wanted, 2 * wanted.shape[0], 2 * wanted.shape[1]), 6)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_header_agrees_with_the_decoded_image(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    for mode in ("RGB", "L", *(("P", "RGBA", "LA", "1") if kind == "png" else ())):
        Image.new("RGB", (37, 21), "teal").convert(mode).save(path)
        header = images.header_of(path)
        info = images.info_of(images.read_image(path), path, path, 1)
        assert header == images.Header(info.width, info.height, max(info.bits, 8), info.alpha), mode


def test_the_transparency_of_a_palette_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    image = Image.new("P", (16, 16), 0)
    image.putpalette([200, 100, 50, 10, 20, 30])
    image.paste(1, (8, 0, 16, 16))
    image.save(source / "a.png", transparency=1)
    enlarge(source, tmp_path / "out")
    made = read_png(tmp_path / "out" / "a.png", "rgba")
    assert (made[8, 4, 3], made[8, 28, 3]) == (255, 0)
