"""Inspect an upload: which streams does it contain? Run as a child process.

    python -m sharpreel.web.sandbox.inspect FILE      prints {"info": ...} or {"error": ...}

Only containers that hold their own content are opened: a playlist could name files of the server
or of its network.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import av

from sharpreel.errors import InputError
from sharpreel.media.probe import probe, transparent

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,mxf,gif,"
    "yuv4mpegpipe,h264,hevc,m4v,dv,rm,ivf,obu,nut"
)


def inspect(path: Path) -> dict[str, Any]:
    """Size, length and streams of a file, in the form of `http.schemas.Info`.

    Raises:
        InputError: The file is not a video, or has a format that is not accepted.
    """
    try:
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        with av.open(str(path), options=options, metadata_errors="replace") as container:
            streams = [
                {
                    "kind": stream.type,
                    "codec": stream.codec_context.name if stream.codec_context else "unknown",
                    "language": stream.language,
                }
                for stream in container.streams
            ]
    except (av.FFmpegError, OSError, ValueError) as e:
        raise InputError("not a readable video. Is the file complete?") from e
    info = probe(path)
    if info.alpha:
        raise InputError(transparent("it"))
    width, height = info.shown_size
    return {
        "width": width,
        "height": height,
        "fps": float(info.rate),
        "seconds": info.duration_seconds,
        "frames": info.num_frames,
        "video_codec": info.codec,
        "container": info.container,
        "streams": streams,
    }


def main() -> int:
    path = Path(sys.argv[1])
    try:
        print(json.dumps({"info": inspect(path)}))
    except InputError as e:
        print(json.dumps({"error": str(e).replace(f"{path}: ", "")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
