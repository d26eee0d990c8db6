"""Colour descriptions: matrix, range, transfer, primaries, HDR10 metadata."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from av.video.frame import VideoFrame

from sharpreel.errors import InputError

# libavutil's AVColorSpace -> swscale's name for it. A matrix that is missing cannot be converted.
MATRICES = {
    1: "bt709",
    4: "fcc",
    5: "bt470",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020",
}
MATRIX_NAMES = {
    0: "RGB",
    1: "BT.709",
    4: "FCC",
    5: "BT.601",
    6: "BT.601",
    7: "SMPTE 240M",
    9: "BT.2020",
}
RGB, UNSPECIFIED, BT709, BT601, BT2020 = 0, 2, 1, 6, 9
LIMITED, FULL = 1, 2
PQ, HLG = 16, 18


@dataclass(frozen=True)
class ColorInfo:
    """Colour description of a stream, in the numbers of ITU-T H.273 (libavutil's enums).

    `matrix` and `full_range` are what frames are converted with; `guessed` is true when the file
    does not state the matrix.
    """

    matrix: int
    full_range: bool
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    guessed: bool = False

    @property
    def matrix_name(self) -> str:
        """The name of the matrix for people, such as "BT.709"."""
        return MATRIX_NAMES[self.matrix]

    @property
    def hdr(self) -> str | None:
        """ "PQ" or "HLG"; None for standard dynamic range."""
        return {PQ: "PQ", HLG: "HLG"}.get(self.transfer)


@dataclass(frozen=True)
class Hdr10:
    """HDR10 static metadata, as x265 and SVT-AV1 expect it: SMPTE ST 2086 and CTA-861.3.

    `primaries` are the chromaticities of red, green, blue and white; luminances in cd/m2.
    """

    primaries: tuple[tuple[Fraction, Fraction], ...] = ()
    min_luminance: Fraction = Fraction(0)
    max_luminance: Fraction = Fraction(0)
    max_cll: int = 0
    max_fall: int = 0

    def encoder_settings(self, mastering: str, light: str, integers: bool) -> list[str]:
        """Encoder settings "name=value" that carry the metadata.

        Args:
            mastering, light: The encoder's names for the mastering display and the light levels.
            integers: x265 counts chromaticities in 1/50000 and luminances in 1/10000 cd/m2;
                SVT-AV1 takes decimal fractions.
        """

        def number(value: Fraction, steps: int) -> str:
            return str(round(value * steps)) if integers else f"{float(value):.5f}"

        settings = []
        if self.primaries:
            r, g, b, white = self.primaries
            points = "".join(
                f"{key}({number(x, 50000)},{number(y, 50000)})"
                for key, (x, y) in zip(("G", "B", "R", "WP"), (g, b, r, white), strict=True)
            )
            high, low = (number(v, 10000) for v in (self.max_luminance, self.min_luminance))
            settings.append(f"{mastering}={points}L({high},{low})")
        if self.max_cll or self.max_fall:
            settings.append(f"{light}={self.max_cll},{self.max_fall}")
        return settings


def color_of(frame: VideoFrame, path: str) -> ColorInfo:
    """The colour description of a decoded frame; what the file does not state is guessed.

    Raises:
        InputError: A matrix that cannot be converted.
    """
    if frame.format.is_rgb or frame.format.name == "pal8":
        return ColorInfo(RGB, True, frame.color_primaries, frame.color_trc)
    full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    matrix, guessed = int(frame.colorspace), False
    if matrix == UNSPECIFIED or (matrix == RGB and not frame.format.is_rgb):
        matrix, guessed = default_matrix(frame.width, frame.height), True
    if matrix not in MATRICES:
        raise InputError(
            f"{path}: colour matrix {matrix} of ITU-T H.273 (such as ICtCp or YCgCo) cannot be "
            "converted; convert the video to BT.709 or BT.2020 first."
        )
    return ColorInfo(matrix, full, int(frame.color_primaries), int(frame.color_trc), guessed)


def default_matrix(width: int, height: int) -> int:
    """BT.601 for standard definition, BT.709 above it: what players assume (mpv's rule)."""
    return BT709 if width >= 1280 or height > 576 else BT601
