"""Re-encodes audio that the output's container cannot hold: to AAC, in WebM to Opus."""

from __future__ import annotations

from typing import Any

import av
from av.container import OutputContainer
from av.stream import Stream

from sharpreel.media.frame import TimeRange
from sharpreel.media.tags import lasting_tags

PLAIN_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}


class AudioTranscoder:
    """Decodes one audio stream and encodes it again, for a container that refuses its codec.

    Args:
        out: The output, to which a stream is added.
        stream: The input's audio stream.
        window: Audio outside of it is dropped, by whole frames of the decoder.
    """

    def __init__(self, out: OutputContainer, stream: Stream, window: TimeRange) -> None:
        self._out, self._window = out, window
        context: Any = stream.codec_context
        encoder = "libopus" if out.format.name == "webm" else "aac"
        rate = 48000 if encoder == "libopus" else min(context.sample_rate, 96000)
        add_stream: Any = out.add_stream
        self._stream: Any = add_stream(encoder, rate=rate)
        layout = context.layout
        if layout.name.endswith(" channels"):  # whose positions are not stated
            layout = av.AudioLayout(PLAIN_LAYOUTS.get(layout.nb_channels, "stereo"))
        self._stream.codec_context.layout = layout
        self._stream.codec_context.bit_rate = 96000 * max(context.layout.nb_channels, 1)
        self._stream.metadata.update(lasting_tags(stream))
        self._stream.disposition = stream.disposition
        self._resampler: Any = av.AudioResampler(self._stream.format, layout, rate)

    def send(self, packet: av.Packet[Any]) -> None:
        """Transcode one packet of the input; one that does not decode is dropped."""
        try:
            frames: list[Any] = packet.decode()
        except av.FFmpegError:
            return
        for frame in frames:
            if frame.pts is not None and frame.time_base is not None:
                if not self._window.holds(frame.pts * frame.time_base):
                    continue
                frame.pts -= round(self._window.shift / frame.time_base)
            for resampled in self._resampler.resample(frame):
                self._out.mux(self._stream.encode(resampled))

    def finish(self) -> None:
        """Flush the resampler and the encoder."""
        for resampled in self._resampler.resample(None):
            self._out.mux(self._stream.encode(resampled))
        self._out.mux(self._stream.encode(None))
