"""How does one make a video that plays everywhere, without a video encoder?

A lossy WebP picture *is* a VP8 key frame in a different wrapper. So: draw the frames, save each as WebP, take the VP8
chunk out, and put the chunks one after another into a WebM container, which is written here in a few lines of EBML.
The result is a real VP8/WebM file that browsers, ffmpeg and phones play; only larger than an encoder's, as every frame
is a key frame.
"""

from __future__ import annotations

import io
import struct
from functools import lru_cache

from PIL import Image

from simulator.pictures import draw


@lru_cache(maxsize=32)
def webm(prompt: str, seed: int, size: int = 256, frames: int = 24, frame_ms: int = 83) -> bytes:
    """Give the moving picture of a prompt and a seed as a WebM video of about two seconds."""
    pictures = [draw(prompt, seed, size, phase=index / frames) for index in range(frames)]
    blocks = b"".join(
        # A simple block: track 1, time within the cluster, flags "key frame".
        _element(0xA3, b"\x81" + struct.pack(">h", index * frame_ms) + b"\x80" + vp8_key_frame(picture))
        for index, picture in enumerate(pictures)
    )
    video = _number(0xB0, size) + _number(0xBA, size)
    track = _number(0xD7, 1) + _number(0x73C5, 1) + _number(0x83, 1) + _element(0x86, b"V_VP8") + _element(0xE0, video)
    info = (
        _number(0x2AD7B1, 1_000_000)
        + _element(0x4489, struct.pack(">d", frames * frame_ms))
        + _element(0x4D80, b"simulator")
        + _element(0x5741, b"simulator")
    )
    segment = (
        _element(0x1549A966, info)
        + _element(0x1654AE6B, _element(0xAE, track))
        + _element(0x1F43B675, _number(0xE7, 0) + blocks)
    )
    head = (
        _number(0x4286, 1)
        + _number(0x42F7, 1)
        + _number(0x42F2, 4)
        + _number(0x42F3, 8)
        + _element(0x4282, b"webm")
        + _number(0x4287, 2)
        + _number(0x4285, 2)
    )
    return _element(0x1A45DFA3, head) + _element(0x18538067, segment)


def vp8_key_frame(picture: Image.Image) -> bytes:
    """Encode one picture as a bare VP8 key frame."""
    target = io.BytesIO()
    picture.save(target, "WEBP", quality=70, method=2)
    data = target.getvalue()
    at = 12
    while at < len(data):
        kind, length = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])[0]
        if kind == b"VP8 ":
            return data[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)
    raise AssertionError("a lossy WebP without a VP8 chunk")


def _element(ident: int, payload: bytes) -> bytes:
    name = ident.to_bytes((ident.bit_length() + 7) // 8, "big")
    # Eight-byte sizes throughout: longer than needed, always valid.
    return name + (len(payload) | 1 << 56).to_bytes(8, "big") + payload


def _number(ident: int, value: int) -> bytes:
    return _element(ident, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))
