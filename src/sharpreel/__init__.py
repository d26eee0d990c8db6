"""sharpreel turns low-resolution video into high-resolution video.

    import sharpreel
    sharpreel.upscale_video("in.mp4", "out.mp4", scale=2)

Importing the package loads neither torch nor OpenVINO nor FFmpeg: each name below is loaded when it
is first used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sharpreel._version import __version__

# PyTorch requests the memory of a large tensor from the system each time. Pages of 2 MB halve the
# time of a network on large frames (Linux). It reads this once, at its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


if TYPE_CHECKING:
    from sharpreel.cluster.runner import upscale_videos as upscale_videos
    from sharpreel.errors import SharpreelError as SharpreelError
    from sharpreel.models.weights import Model as Model
    from sharpreel.models.weights import load_model as load_model
    from sharpreel.pipeline.live import LiveFrame as LiveFrame
    from sharpreel.pipeline.live import upscale_live as upscale_live
    from sharpreel.pipeline.options import UpscaleOptions as UpscaleOptions
    from sharpreel.pipeline.stages import Progress as Progress
    from sharpreel.pipeline.stages import Result as Result
    from sharpreel.queue import Outcome as Outcome
    from sharpreel.queue import upscale_folder as upscale_folder
    from sharpreel.upscale import upscale_frames as upscale_frames
    from sharpreel.upscale import upscale_video as upscale_video

_HOMES = {
    "LiveFrame": "pipeline.live",
    "Model": "models.weights",
    "Outcome": "queue",
    "Progress": "pipeline.stages",
    "Result": "pipeline.stages",
    "SharpreelError": "errors",
    "UpscaleOptions": "pipeline.options",
    "load_model": "models.weights",
    "upscale_folder": "queue",
    "upscale_frames": "upscale",
    "upscale_live": "pipeline.live",
    "upscale_video": "upscale",
    "upscale_videos": "cluster.runner",
}
__all__ = [
    "LiveFrame",
    "Model",
    "Outcome",
    "Progress",
    "Result",
    "SharpreelError",
    "UpscaleOptions",
    "__version__",
    "load_model",
    "upscale_folder",
    "upscale_frames",
    "upscale_live",
    "upscale_video",
    "upscale_videos",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"sharpreel.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sharpreel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
