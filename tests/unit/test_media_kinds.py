"""What a file is, by its first bytes; and what it may be called."""

import io
import struct
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shared.errors import InvalidInput
from shared.media.addresses import bare, expires_at, last_part
from shared.media.kinds import KINDS, FileKind, is_page, kind_of_ending, sniff
from shared.media.names import LONGEST_NAME_BYTES, agreed, safe_name, split, type_of_name
from shared.media.uploads import KEEP_SECONDS, keep_for

PNG, PAGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"<!DOCTYPE html><html><body>502</body></html>"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_pictures_that_a_library_wrote_are_known(form: str) -> None:
    """Real files, not only magic numbers we made up."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, form)
    kind = sniff(file.getvalue())
    assert kind is not None
    assert kind.content_type == f"image/{form.lower()}"


@pytest.mark.parametrize(
    ("head", "content_type"),
    [
        (b"\0\0\0\x20ftypisom\0\0\2\0", "video/mp4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "video/quicktime"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "video/quicktime"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "audio/mp4"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "image/avif"),
        (b"\0\0\0\x20ftypheic\0\0\0\0", "image/heic"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\x82\x84webm", "video/webm"),
        (b"\x1aE\xdf\xa3\1\0\0\0\0\0\0PB\x82\1\0\0\0\0\0\0\4webm", "video/webm"),
        (b"\x1aE\xdf\xa3\xa3B\x86\x81\1B\xf7\x81\1B\x82\x88matroska", "video/x-matroska"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
        (b"RIFF\x24\0\0\0AVI LIST", "video/x-msvideo"),
        (b"ID3\4\0\0\0\0\0\0", "audio/mpeg"),
        (b"\xff\xfb\x90\x64\0", "audio/mpeg"),
        (b"\xff\xf1\x50\x80\0", "audio/aac"),
        (b"fLaC\0\0\0\x22", "audio/flac"),
        (b"OggS\0\2", "audio/ogg"),
        (b"PK\3\4\x14\0", "application/zip"),
        (b"%PDF-1.7", "application/pdf"),
        (b"glTF\2\0\0\0", "model/gltf-binary"),
        (struct.pack("<Q", 64) + b'{"__metadata__":{}}', "application/octet-stream"),
    ],
)
def test_kinds_by_their_first_bytes(head: bytes, content_type: str) -> None:
    """Containers are told apart by their brand or document type."""
    kind = sniff(head)
    assert kind is not None
    assert kind.content_type == content_type


@pytest.mark.parametrize("head", [b"", b"\xff", b"RIFF", b"hello", b"\xff\xff\xff\xff", PAGE, b'{"error": "x"}'])
def test_what_is_no_kind_of_ours_is_none(head: bytes) -> None:
    """Text, too few bytes, pages, JSON."""
    assert sniff(head) is None


@given(st.binary(max_size=64))
def test_any_bytes_can_be_asked_about(head: bytes) -> None:
    """Nothing raises."""
    assert sniff(head) is None or isinstance(sniff(head), FileKind)
    assert is_page(head) in (True, False)


def test_pages_are_told_from_pictures_made_of_xml() -> None:
    """HTML and an object store's errors are pages, SVG is not."""
    assert is_page(b"\xef\xbb\xbf \n<!doctype HTML>")
    assert is_page(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>')
    assert not is_page(b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>')
    assert not is_page(b"<svg/>")


def test_no_two_kinds_share_an_ending() -> None:
    """An ending names one kind."""
    endings = [ending for kind in KINDS for ending in kind.endings]
    assert len(endings) == len(set(endings))
    assert kind_of_ending(".PNG") is kind_of_ending(".apng")


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_name", "safe"),
    [
        ("fox.png", "fox.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\secret\\fox.png", "fox.png"),
        ("..", "file"),
        ("", "file"),
        (".bashrc", "bashrc"),
        ("-rf.png", "rf.png"),
        ("con.png", "_con.png"),
        ("a\x00b\u202egnp.png", "abgnp.png"),
        ('a<b>:"c|?*.png', "a_b___c___.png"),
        ("лиса 1.webp", "лиса 1.webp"),
        ("x" * 400 + ".png", "x" * 176 + ".png"),
        ("fox. ", "fox"),
    ],
)
def test_safe_names(given_name: str, safe: str) -> None:
    """No other folder, nothing hidden, no device, nothing invisible, not too long."""
    assert safe_name(given_name) == safe


@given(st.text(max_size=300) | st.text(alphabet="./\\ ~-_conCON1.\u202e🦊", max_size=40))
def test_any_name_becomes_a_safe_one(name: str) -> None:
    """One part of a path, printable, short enough for every disk; making it safe again changes nothing."""
    safe = safe_name(name)
    assert safe
    assert safe not in {".", ".."}
    assert not set(safe) & set('/\\:\0<>|?*"')
    assert safe[0] not in ".-~ "
    assert safe[-1] not in ". "
    assert safe.isprintable()
    assert len(safe.encode()) <= LONGEST_NAME_BYTES
    assert safe_name(safe) == safe


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("fox.png", PNG, ("fox.png", "image/png")),
        ("FOX.PNG", PNG, ("FOX.PNG", "image/png")),
        ("fox.jpg", PNG, ("fox.png", "image/png")),
        ("fox.txt", PNG, ("fox.png", "image/png")),
        ("fox", PNG, ("fox.png", "image/png")),
        ("fox.2", PNG, ("fox.2.png", "image/png")),
        ("a.docx", b"PK\3\4", ("a.docx", type_of_name("a.docx"))),
        ("a.npz", b"PK\3\4", ("a.npz", "application/octet-stream")),
        ("a.txt", b"PK\3\4", ("a.zip", "application/zip")),
        ("weights.bin", b"\0\1\2", ("weights.bin", "application/octet-stream")),
    ],
)
def test_the_content_decides_and_the_name_follows(name: str, head: bytes, expected: tuple[str, str]) -> None:
    """The API goes by the name alone, so the name must say what the content is."""
    assert agreed(name, sniff(head)) == expected


@pytest.mark.parametrize(("name", "head"), [("fox.png", b"not a png"), ("notes.txt", b"hello"), ("a.html", PAGE)])
def test_what_the_api_would_misread_is_refused(name: str, head: bytes) -> None:
    """An ending that promises bytes that are not there, and texts."""
    with pytest.raises(InvalidInput):
        agreed(name, sniff(head))


@given(st.text(max_size=60), st.sampled_from(KINDS))
def test_an_agreed_name_is_read_back_as_its_kind(name: str, kind: FileKind) -> None:
    """Whatever it was called."""
    called, content_type = agreed(name, kind)
    assert safe_name(called) == called
    assert kind.holds_others or type_of_name(called) == content_type == kind.content_type


def test_endings_of_a_usual_form() -> None:
    """What follows the last dot, if it looks like an ending."""
    assert split("a.tar.gz") == ("a.tar", ".gz")
    assert split("v1.2 final") == ("v1.2 final", "")


# -- addresses --------------------------------------------------------------------------------------------------------

SIGNED = "https://b.test/o/a%20b.png?v=2&X-Amz-Date=20261121T030000Z&X-Amz-Expires=3600&X-Amz-Signature=f0"


def test_an_address_without_its_signature_is_the_file() -> None:
    """Two signatures of one file are one file; other parts of a query stay."""
    assert bare(SIGNED) == bare(SIGNED.replace("f0", "aa")) == "https://b.test/o/a%20b.png?v=2"


def test_a_signature_tells_its_end() -> None:
    """And half of what is left of it is for others."""
    end = expires_at(SIGNED)
    assert end == datetime(2026, 11, 21, 4, tzinfo=UTC)
    assert keep_for(SIGNED, end - timedelta(minutes=40)) == 1200
    assert keep_for(SIGNED, end + timedelta(minutes=1)) == 0
    assert keep_for("https://b.test/a.png", end) == KEEP_SECONDS
    assert expires_at("https://b.test/a.png?X-Amz-Date=x&X-Amz-Expires=1") is None


@given(st.text(max_size=60) | st.text(alphabet="htp:/[]?&=%#@ax", max_size=40).map(lambda text: f"http://[{text}"))
def test_any_text_can_be_taken_for_an_address(url: str) -> None:
    """What the API says is an address may be anything; and what is bare stays so."""
    assert bare(bare(url)) == bare(url)
    assert "/" not in last_part(url) or "%2f" in url.lower()
    assert expires_at(url) is None
