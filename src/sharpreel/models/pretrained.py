"""Downloadable third-party checkpoints, `PUBLISHED`, by the names that `model=` accepts.

A row says where the file is, of which network, and how it is verified: by its complete SHA-256, by
the first digits of it that the publisher put into the file's name (as OpenMMLab does), or, where
neither exists, by the checksum of the first download (see `system/download.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MM = "https://download.openmmlab.com/mmediting/restorers"
_REALESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Published:
    """One file to download.

    Attributes:
        model: The row of `MODELS`.
        url: Where the file is.
        sha256: Its checksum in hexadecimal, or the first digits of it; "": not published.
        arguments: The arguments that its tensors are recognised by.
        parameters: Number of trained parameters in it.
        trained: The training data, in a few words.
        licence: Of the file, as its publisher states it.
    """

    model: str
    url: str
    sha256: str
    arguments: Mapping[str, Any]
    parameters: int
    trained: str
    licence: str

    @property
    def scale(self) -> int:
        """Output pixels per input pixel."""
        return int(self.arguments.get("scale", 4))  # Fast-SRGAN has no other

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]


def _mm(model: str, file: str, trained: str, parameters: int, **arguments: Any) -> Published:
    """A file of OpenMMLab, whose name ends in eight digits of its checksum."""
    folder = {"basicvsr": "basicvsr", "basicvsrpp": "basicvsr_plusplus"}[model]
    sha256 = file.removesuffix(".pth").rpartition("-")[2]
    url = f"{_MM}/{folder}/{file}"
    return Published(model, url, sha256, arguments, parameters, trained, "Apache-2.0")


def _basicvsr(file: str, trained: str) -> Published:
    return _mm("basicvsr", file, trained, 6_291_311, channels=64, blocks=30, scale=4)


def _basicvsrpp(file: str, trained: str) -> Published:
    return _mm("basicvsrpp", file, trained, 7_322_927, channels=64, blocks=7, scale=4)


def _ntire(file: str, trained: str, **form: int) -> Published:
    parameters = 43_780_463 if form["scale"] == 4 else 44_075_631
    return _mm("basicvsrpp", file, trained, parameters, channels=128, blocks=25, **form)


def _realesrgan(
    model: str, file: str, sha256: str, trained: str, parameters: int, **arguments: Any
) -> Published:
    url = f"{_REALESRGAN}/{file}"
    return Published(model, url, sha256, arguments, parameters, trained, "BSD-3-Clause")


PUBLISHED: dict[str, Published] = {
    "basicvsr-reds4": _basicvsr("basicvsr_reds4_20120409-0e599677.pth", "REDS, BI"),
    "basicvsr-vimeo-bi": _basicvsr("basicvsr_vimeo90k_bi_20210409-d2d8f760.pth", "Vimeo-90K, BI"),
    "basicvsr-vimeo-bd": _basicvsr("basicvsr_vimeo90k_bd_20210409-0154dd64.pth", "Vimeo-90K, BD"),
    "basicvsrpp-reds4": _basicvsrpp(
        "basicvsr_plusplus_c64n7_8x1_600k_reds4_20210217-db622b2f.pth", "REDS, BI"
    ),
    "basicvsrpp-vimeo-bi": _basicvsrpp(
        "basicvsr_plusplus_c64n7_8x1_300k_vimeo90k_bi_20210305-4ef437e2.pth", "Vimeo-90K, BI"
    ),
    "basicvsrpp-vimeo-bd": _basicvsrpp(
        "basicvsr_plusplus_c64n7_8x1_300k_vimeo90k_bd_20210305-ab315ab1.pth", "Vimeo-90K, BD"
    ),
    "basicvsrpp-ntire-vsr": _ntire(
        "basicvsr_plusplus_c128n25_ntire_vsr_20210311-1ff35292.pth", "NTIRE 2021, BI", scale=4
    ),
    "basicvsrpp-decompress1": _ntire(
        "basicvsr_plusplus_c128n25_ntire_decompress_track1_20210223-7b2eba02.pth",
        "NTIRE 2021, HEVC at fixed QP",
        scale=1,
        shrink=4,
    ),
    "basicvsrpp-decompress2": _ntire(
        "basicvsr_plusplus_c128n25_ntire_decompress_track2_20210314-eeae05e6.pth",
        "NTIRE 2021, HEVC at fixed QP, perceptual",
        scale=1,
        shrink=4,
    ),
    "basicvsrpp-decompress3": _ntire(
        "basicvsr_plusplus_c128n25_ntire_decompress_track3_20210304-6daf4a40.pth",
        "NTIRE 2021, HEVC at fixed bit rate",
        scale=1,
        shrink=4,
    ),
    "realesr-animevideov3": _realesrgan(
        "srvgg",
        "v0.2.5.0/realesr-animevideov3.pth",
        "b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
        "animated videos",
        621_424,
        scale=4,
        channels=64,
        convs=16,
    ),
    "realesr-general-x4v3": _realesrgan(
        "srvgg",
        "v0.2.5.0/realesr-general-x4v3.pth",
        "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        "photographs, Real-ESRGAN degradation",
        1_213_296,
        scale=4,
        channels=64,
        convs=32,
    ),
    "realesrgan-x4plus": _realesrgan(
        "rrdb",
        "v0.1.0/RealESRGAN_x4plus.pth",
        "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        "photographs, Real-ESRGAN degradation",
        16_697_987,
        scale=4,
    ),
    "realesrgan-x2plus": _realesrgan(
        "rrdb",
        "v0.2.1/RealESRGAN_x2plus.pth",
        "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        "photographs, Real-ESRGAN degradation",
        16_703_171,
        scale=2,
    ),
    "realesrgan-x4plus-anime": _realesrgan(
        "rrdb",
        "v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
        "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
        "drawings",
        4_467_779,
        scale=4,
        blocks=6,
    ),
    "fast-srgan": Published(
        "srgan",
        f"{_RAW}/HasnainRaz/Fast-SRGAN/dd0ddb4a6d41ed80ccf7ac97f51ef9589aeb7348/models/model.pt",
        "",
        {"network": "fast", "channels": 64, "blocks": 8},
        925_646,
        "photographs, bicubic",
        "see source",
    ),
    "tsrcnn-small": Published(
        "tsrcnn",
        f"{_RAW}/Dawid64/super-enhanced-resolution/4d88f9d9766702b34a0f0a0f70894a9beb5b42af/"
        "fine-models/small_360_720_252videos_AdamWopt_PNSRloss_1fb_1ff_3ep_final.pt",
        "",
        {"size": "small", "past": 1, "future": 1, "scale": 2},
        51_203,
        "Inter4K, area",
        "not stated",
    ),
    "tsrcnn-large": Published(
        "tsrcnn",
        f"{_RAW}/Dawid64/super-enhanced-resolution/b05d6237bb864a9f6d451361b1668f1a6d70030e/"
        "fine-models/large_360_720_36videos_AdamWopt_MSELossloss_1fb_1ff_3ep_final.pt",
        "",
        {"size": "large", "past": 1, "future": 1, "scale": 2},
        222_723,
        "Inter4K, area",
        "not stated",
    ),
}
