"""Messages and limits of the live socket.

Messages are binary, numbers big-endian:

    to the server    uint32 sequence, float64 captured, JPEG or WebP
    to the browser   uint32 sequence, float64 captured, float32 milliseconds,
                     uint32 dropped, image of the same format

`captured` is on the browser's clock and returned unchanged; `milliseconds` is the time that the
frame spent on the server, including waiting; `dropped` counts the frames that the server dropped.
The first message to the browser is JSON text: the model, its scale and the limits. A client that
breaks the rules is disconnected; the code and reason of the close message say why.
"""

from __future__ import annotations

import struct

PATH = "/live/socket"
MODEL, SCALE = "reel-live", 2
REQUEST_HEADER, RESPONSE_HEADER = struct.Struct(">Id"), struct.Struct(">IdfI")
MAX_PIXELS = 320 * 320  # of a received frame: 320x180, or as many in another aspect ratio
MIN_SIDE = 16  # pixels
MAX_MESSAGE_BYTES = 256 * 1024  # a 320x320 JPEG of pure noise is smaller
MAX_REASON_BYTES = 123  # of a close message

# Close codes of RFC 6455, 7.4.1
NORMAL = 1000
GOING_AWAY = 1001
WRONG_TYPE = 1003
INVALID_IMAGE = 1007
POLICY = 1008
TOO_BIG = 1009
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013


class LiveError(Exception):
    """The client is disconnected, with a close code of RFC 6455 and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason
