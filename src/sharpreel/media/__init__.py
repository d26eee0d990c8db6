"""Everything that uses FFmpeg (through PyAV): files to frames and frames to files.

probe -> VideoReader -> frames (RGB) -> SegmentWriter -> assemble (mux) -> verify
"""

from __future__ import annotations

import os

import av.sidedata.sidedata

# Errors are raised; FFmpeg's own messages on stderr would only repeat them.
av.logging.set_level(av.logging.PANIC)
os.environ.setdefault("SVT_LOG", "0")
