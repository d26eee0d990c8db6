"""Video codecs and JPEG."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sharpreel.data.degrade.compression import CODERS, CodecName, compress, jpeg
from sharpreel.errors import UsageError
from tests.support.degradations import Clip, psnr, scene


@pytest.mark.parametrize("codec", list(CODERS))
def test_a_codec_keeps_count_size_and_colour_at_its_best(codec: CodecName) -> None:
    # Smooth in colour, so that subsampled chroma loses next to nothing.
    y, x = np.mgrid[:45, :71]
    frames = [np.stack([40 + 2.5 * x, 200 - 2 * y + t, 230 - 2.2 * x], axis=2) for t in range(7)]
    clip: Clip = np.stack(frames).astype(np.uint8)
    coded = compress(clip, codec, crf=CODERS[codec].crf[0])
    assert coded.shape == clip.shape
    assert coded.dtype == np.uint8
    change = coded.astype(np.float64) - clip
    np.testing.assert_allclose(change.mean(axis=(0, 1, 2)), 0, atol=0.5)
    # Red grows to the right and blue falls: chroma that moves would part the two.
    red, _, blue = change[:, 8:-8, 8:-8].mean(axis=(0, 1, 2))
    assert abs(red - blue) < 0.6
    assert psnr(coded, clip) > 40


def test_large_frames_use_bt709_and_keep_their_colours() -> None:
    y, x = np.mgrid[:32, :1280]
    frame = np.stack([x / 5.02, 255 - x / 5.02, 255 - 7 * y], axis=2).astype(np.uint8)
    coded = compress(np.stack([frame, frame]), "h264", crf=1)
    np.testing.assert_allclose((coded.astype(float) - frame).mean(axis=(0, 1, 2)), 0, atol=0.4)
    assert psnr(coded, np.stack([frame, frame])) > 40


@pytest.mark.parametrize("codec", list(CODERS))
def test_a_higher_crf_or_a_lower_bitrate_is_worse(codec: CodecName) -> None:
    clip = scene(6, 48, 64)
    best, worst = CODERS[codec].crf
    by_crf = [
        psnr(compress(clip, codec, crf=best + (worst - best) * part // 10), clip)
        for part in (1, 4, 8)
    ]
    assert by_crf == sorted(by_crf, reverse=True)
    assert by_crf[0] > by_crf[-1] + 3
    usual = psnr(compress(clip, codec), clip)
    assert by_crf[-1] < usual
    few, many = (psnr(compress(clip, codec, bitrate=b, rate=10), clip) for b in (8_000, 800_000))
    assert few < many


@pytest.mark.parametrize("codec", list(CODERS))
def test_a_codec_takes_one_tiny_frame_and_gives_the_same_bytes_each_time(
    codec: CodecName,
) -> None:
    tiny = scene(1, 3, 1)
    assert compress(tiny, codec).shape == tiny.shape
    clip = scene(5, 34, 50)
    once, again = compress(clip, codec, crf=20), compress(clip, codec, crf=20)
    np.testing.assert_array_equal(once, again)


def test_compress_reports_invalid_arguments() -> None:
    clip = scene(1, 16, 16)
    with pytest.raises(ValueError, match="codec must be one of h264, hevc"):
        compress(clip, "theora")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mpeg4 takes crf 1 to 31, got 0"):
        compress(clip, "mpeg4", crf=0)
    with pytest.raises(ValueError, match="either crf or bitrate"):
        compress(clip, crf=20, bitrate=1000)
    with pytest.raises(ValueError, match="must be positive"):
        compress(clip, bitrate=0)
    with pytest.raises(ValueError, match="take 8 bits, got uint16"):
        compress(clip.astype(np.uint16))


def test_a_missing_encoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.codecs_available", {"libx264"})
    with pytest.raises(UsageError, match="no encoder libx265"):
        compress(scene(1, 16, 16), "hevc")


@pytest.mark.parametrize("quality", [10, 30, 60, 95])
def test_jpeg_is_what_libjpeg_writes_and_reads(quality: int) -> None:
    clip = scene(2, 45, 70)
    ours = jpeg(clip, quality)
    theirs = []
    for frame in clip:
        done, file = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert done
        read = cv2.imdecode(file, cv2.IMREAD_COLOR)
        assert read is not None
        theirs.append(read[..., ::-1])
    # libjpeg computes with integers: its DCT coefficients fall on the other side now and then.
    assert np.abs(ours.astype(float) - theirs).mean() < 1
    assert abs(psnr(ours, clip) - psnr(np.stack(theirs), clip)) < 0.1


def test_jpeg_takes_a_quality_for_each_frame() -> None:
    clip = scene(1, 32, 32).repeat(2, axis=0)
    both = jpeg(clip, np.array([15, 90]))
    np.testing.assert_array_equal(both[0], jpeg(clip[:1], 15)[0])
    np.testing.assert_array_equal(both[1], jpeg(clip[:1], 90)[0])
    with pytest.raises(ValueError, match="1 to 100, got 0"):
        jpeg(clip, 0)
