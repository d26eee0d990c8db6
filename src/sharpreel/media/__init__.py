"""Everything that speaks FFmpeg: files to frames and frames to files."""

from __future__ import annotations

import os

import av.sidedata.sidedata

# The packets say what is wrong; FFmpeg's own chatter on stderr would only repeat it.
av.logging.set_level(av.logging.PANIC)
os.environ.setdefault("SVT_LOG", "0")
