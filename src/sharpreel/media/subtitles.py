"""Text subtitles: conversion between SubRip and MP4 timed text."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer
from av.stream import Stream

from sharpreel.media.containers import codec_name
from sharpreel.media.tags import stream_tags


def add_subrip_stream(out: OutputContainer, stream: Stream) -> Stream:
    text = out.add_mux_stream("subrip")
    text.metadata.update(stream_tags(stream))
    text.disposition = stream.disposition
    return text


def subrip(packet: av.Packet[Any]) -> av.Packet[Any]:
    """A packet of MP4's timed text (mov_text) as one of SubRip: the words, without the styles.

    mov_text is two bytes of length, so many bytes of UTF-8, and boxes with styles; an empty one
    ends the one before it, which SubRip says by its duration.
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
    return stream.type == "subtitle" and codec_name(stream) == "mov_text"


def subtitle_length(packet: av.Packet[Any]) -> Fraction:
    """For how many seconds a subtitle stays on the screen; 0 for other packets."""
    if packet.stream.type != "subtitle" or packet.time_base is None:
        return Fraction(0)
    return (packet.duration or 0) * packet.time_base
