"""sharpreel turns low-resolution video into high-resolution video.

    import sharpreel
    sharpreel.upscale_video("in.mp4", "out.mp4", scale=2)

Importing the package loads neither torch nor OpenVINO nor FFmpeg: the names below come when they
are first used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# torch gets a large tensor's memory from the system anew each time; in pages of 2 MB that halves
# the time of a network on large frames (Linux). It looks at this once, at its first tensor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sharpreel.cluster import upscale_videos as upscale_videos
    from sharpreel.errors import SharpreelError as SharpreelError
    from sharpreel.live import LivePicture as LivePicture
    from sharpreel.live import upscale_live as upscale_live
    from sharpreel.plan import Options as Options
    from sharpreel.upscale import Progress as Progress
    from sharpreel.upscale import Result as Result
    from sharpreel.upscale import upscale_frames as upscale_frames
    from sharpreel.upscale import upscale_video as upscale_video
    from sharpreel.weights import Model as Model
    from sharpreel.weights import load_model as load_model

_HOMES = {
    "SharpreelError": "errors",
    "LivePicture": "live",
    "upscale_live": "live",
    "Options": "plan",
    "Progress": "upscale",
    "Result": "upscale",
    "upscale_frames": "upscale",
    "upscale_video": "upscale",
    "upscale_videos": "cluster",
    "Model": "weights",
    "load_model": "weights",
}
__all__ = [
    "LivePicture",
    "Model",
    "Options",
    "Progress",
    "Result",
    "SharpreelError",
    "__version__",
    "load_model",
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
