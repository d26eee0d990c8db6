"""y4m streams are written and read pixel for pixel, and a truncated one is noticed."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from sharpreel.errors import InputError, UsageError
from sharpreel.media.color import BT709, ColorInfo
from sharpreel.media.encoders import EncodeSettings
from sharpreel.media.frame import Frame
from sharpreel.media.y4m import Y4mReader, Y4mWriter
from tests.support.videos import moving

SETTINGS = EncodeSettings(
    codec="ffv1",
    pix_fmt="yuv444p",
    width=33,
    height=21,
    crf=None,
    preset=None,
    color=ColorInfo(BT709, True),
    rate=Fraction(30000, 1001),
    time_base=Fraction(1001, 30000),
)


def stream(count: int, settings: EncodeSettings = SETTINGS, **options: bool) -> bytes:
    file = io.BytesIO()
    writer = Y4mWriter(file, settings, **options)
    for k, pixels in enumerate(moving((33, 21), count)):
        writer.write(Frame(pixels, 2 * k if options else k))
    writer.close()
    return file.getvalue()


def test_frames_survive_a_stream_up_to_the_rounding_of_yuv() -> None:
    data = stream(3)
    assert data.startswith(b"YUV4MPEG2 W33 H21 F30000:1001 Ip A1:1 C444 XCOLORRANGE=FULL\n")
    reader = Y4mReader(io.BytesIO(data))
    assert (reader.info.width, reader.info.height) == (33, 21)
    assert reader.info.rate == Fraction(30000, 1001)
    frames = list(reader)
    assert [f.pts for f in frames] == [0, 1, 2]
    assert len(data) == 60 + 3 * (6 + 3 * 33 * 21)


def test_missing_frames_are_filled_by_repeats() -> None:
    frames = list(Y4mReader(io.BytesIO(stream(3, fill=True))))
    assert len(frames) == 5
    np.testing.assert_array_equal(frames[0].pixels, frames[1].pixels)
    assert (frames[1].pixels != frames[2].pixels).any()


def test_a_stream_that_ends_within_a_frame_is_reported() -> None:
    reader = Y4mReader(io.BytesIO(stream(3)[:-10]))
    assert len(list(reader)) == 2
    assert [reason for _, reason in reader.report.errors] == ["the stream ends within a frame"]


def test_other_data_is_not_a_y4m_stream() -> None:
    with pytest.raises(InputError, match="stdin: not a y4m stream"):
        Y4mReader(io.BytesIO(b"RIFF" + bytes(1000)), "stdin")


def test_a_format_that_y4m_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="y4m cannot carry nv12; choose pix_fmt='yuv420p'"):
        Y4mWriter(io.BytesIO(), replace(SETTINGS, pix_fmt="nv12"))
