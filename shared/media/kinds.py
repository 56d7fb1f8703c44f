"""What is this file? Its first bytes say; a name or a header only claims.

The table holds what workflows take and make. A kind that is not in it is not refused for that: `sniff` answers None, and
the name has to be believed (`names.py`). Magic numbers are those of the formats' specifications. Pure.
"""

import re
from dataclasses import dataclass
from functools import cache

#: So many first bytes are enough for every kind here.
HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class FileKind:
    """A format, and how its files are called."""

    content_type: str
    #: The first is the one we give.
    endings: tuple[str, ...]
    #: Other formats are made of this one, so a name with an ending that is not in the table may be right.
    holds_others: bool = False


PNG = FileKind("image/png", (".png", ".apng"))
JPEG = FileKind("image/jpeg", (".jpg", ".jpeg", ".jpe", ".jfif"))
WEBP = FileKind("image/webp", (".webp",))
GIF = FileKind("image/gif", (".gif",))
BMP = FileKind("image/bmp", (".bmp",))
TIFF = FileKind("image/tiff", (".tif", ".tiff"))
AVIF = FileKind("image/avif", (".avif",))
HEIC = FileKind("image/heic", (".heic", ".heif"))
EXR = FileKind("image/x-exr", (".exr",))
MP4 = FileKind("video/mp4", (".mp4", ".m4v"))
MOV = FileKind("video/quicktime", (".mov", ".qt"))
WEBM = FileKind("video/webm", (".webm",))
MKV = FileKind("video/x-matroska", (".mkv",))
AVI = FileKind("video/x-msvideo", (".avi",))
WAV = FileKind("audio/wav", (".wav",))
MP3 = FileKind("audio/mpeg", (".mp3",))
FLAC = FileKind("audio/flac", (".flac",))
OGG = FileKind("audio/ogg", (".ogg", ".oga", ".opus"))
M4A = FileKind("audio/mp4", (".m4a",))
AAC = FileKind("audio/aac", (".aac",))
ZIP = FileKind("application/zip", (".zip",), holds_others=True)
GZIP = FileKind("application/gzip", (".gz", ".tgz"), holds_others=True)
PDF = FileKind("application/pdf", (".pdf",))
GLB = FileKind("model/gltf-binary", (".glb",))
SAFETENSORS = FileKind("application/octet-stream", (".safetensors",))

KINDS = (
    *(PNG, JPEG, WEBP, GIF, BMP, TIFF, AVIF, HEIC, EXR, MP4, MOV, WEBM, MKV, AVI, WAV, MP3, FLAC, OGG, M4A, AAC),
    *(ZIP, GZIP, PDF, GLB, SAFETENSORS),
)

_AT_START = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"II*\x00", TIFF),
    (b"MM\x00*", TIFF),
    (b"\x76\x2f\x31\x01", EXR),
    (b"fLaC", FLAC),
    (b"OggS", OGG),
    (b"ID3", MP3),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"\x1f\x8b\x08", GZIP),
    (b"%PDF-", PDF),
    (b"glTF", GLB),
)
_IN_RIFF = {b"WEBP": WEBP, b"WAVE": WAV, b"AVI ": AVI}
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), AVIF),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), HEIC),
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), M4A),
    b"qt  ": MOV,
}
#: What a film of QuickTime without a brand begins with.
_ATOMS = frozenset((b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))

#: In the head of a Matroska file: the element "document type", the length of its word in one to eight bytes, the word.
_WEBM = re.compile(rb"B\x82[\x01-\x88].{0,7}webm", re.DOTALL)

#: A safetensors file begins with the length of its JSON header; more than this no reader takes.
_MOST_SAFETENSORS_HEADER = 100_000_000

#: What servers send in place of a file: a web page, or the XML of an object store.
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!--|(?:!doctype\s+html|html|head|body|\?xml|error)\b)", re.IGNORECASE)


def sniff(head: bytes) -> FileKind | None:
    """The kind of a file that begins with these bytes (give it `HEAD_BYTES` of them); None for one not in the table."""
    for magic, kind in _AT_START:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF":
        return _IN_RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], MP4)
    if head[4:8] in _ATOMS:
        return MOV
    if head[:4] == b"\x1aE\xdf\xa3":
        return WEBM if _WEBM.search(head, 0, 256) else MKV
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return BMP
    if head[8:10] in (b'{"', b"{}") and 2 <= int.from_bytes(head[:8], "little") <= _MOST_SAFETENSORS_HEADER:
        return SAFETENSORS
    return _stream(head)


def _stream(head: bytes) -> FileKind | None:
    """Sound without a header: a frame's first bytes, as far as they can be right."""
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    if head[1] & 0xF6 == 0xF0:
        return AAC
    rate, frequency = head[2] >> 4, head[2] >> 2 & 3
    return MP3 if version != 1 and layer == 1 and rate not in (0, 15) and frequency != 3 else None


def is_page(head: bytes) -> bool:
    """Whether this is a page of HTML or XML: what comes with status 200 when something in between has other ideas.

    SVG is none of them; it is XML that begins with `<svg`, or after `<?xml` has `<svg` in its head.
    """
    return bool(_PAGE.match(head)) and b"<svg" not in head.lower()


@cache
def kind_of_ending(ending: str) -> FileKind | None:
    """The kind whose files end so (`.png`); None when the table has none."""
    return next((kind for kind in KINDS if ending.lower() in kind.endings), None)
