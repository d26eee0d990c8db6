"""Text subtitles: MP4's timed text becomes SubRip, which Matroska holds."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.stream import Stream

from sharpreel.media.streams import codec_name
from sharpreel.media.tags import stream_tags


def add_subrip_stream(out: OutputContainer, stream: Stream) -> Stream:
    """Add a SubRip stream to the output, with this stream's tags and disposition."""
    text = out.add_mux_stream("subrip")
    text.metadata.update(stream_tags(stream))
    text.disposition = stream.disposition
    return text


def subrip(packet: av.Packet[Any]) -> av.Packet[Any]:
    """Convert a packet of MP4's timed text (mov_text) to SubRip: the text, without the styles.

    A mov_text packet is a length N in two bytes, N bytes of UTF-8, and boxes with styles; an empty
    packet ends the text before it, for which SubRip has a duration.
    """
    data = bytes(packet)
    text = av.Packet(data[2 : 2 + int.from_bytes(data[:2], "big")])
    text.pts, text.dts, text.duration = packet.pts, packet.dts, packet.duration
    text.time_base = packet.time_base
    return text


def closes_subtitles(packet: av.Packet[Any]) -> bool:
    """Is it the empty text at the end of MP4's subtitles, which the muxer writes itself?"""
    return not packet.duration and bytes(packet) == bytes(2) and is_mov_text(packet.stream)


def is_mov_text(stream: Stream) -> bool:
    """Is it a stream of MP4's timed text?"""
    return stream.type == "subtitle" and codec_name(stream) == "mov_text"


def subtitle_length(packet: av.Packet[Any]) -> Fraction:
    """Seconds that a subtitle stays on the screen; 0 for other packets."""
    if packet.stream.type != "subtitle" or packet.time_base is None:
        return Fraction(0)
    return (packet.duration or 0) * packet.time_base
