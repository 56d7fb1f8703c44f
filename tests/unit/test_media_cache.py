"""The disk cache: whole files or none, what was used longest ago goes first, and damage is noticed."""

import hashlib
import io
import os
import stat
from pathlib import Path

import pytest

from shared.errors import MissingSetting
from shared.media.cache import PARTIAL_SECONDS, Damaged, DiskCache, usual_folder

HOUR = 3600


def put(cache: DiskCache, address: str, content: bytes, age_seconds: float = 0) -> str:
    """Keep a file as if it had been used so long ago; its digest."""
    digest = hashlib.sha256(content).hexdigest()
    with cache.partial() as file:
        file.write(content)
        kept = cache.keep(file, address, digest)
    kept.close()
    if age_seconds:
        used = kept.path.stat().st_mtime - age_seconds
        os.utime(kept.path, (used, used))
    return digest


def read(cache: DiskCache, address: str) -> bytes | None:
    """What is kept of an address."""
    kept = cache.find(address)
    if kept is None:
        return None
    into = io.BytesIO()
    try:
        kept.copy(into)
    finally:
        kept.close()
    return into.getvalue()


def files(folder: Path) -> list[Path]:
    """Every file below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_is_found_by_its_address_and_kept_once(tmp_path: Path) -> None:
    """Two addresses of the same content are one file; nobody else may read it."""
    cache = DiskCache(tmp_path / "cache", 1000)
    assert read(cache, "a") is None
    assert put(cache, "a", b"fox") == put(cache, "b", b"fox")
    assert read(cache, "a") == read(cache, "b") == b"fox"
    assert len(files(tmp_path / "cache" / "content")) == 1
    assert files(tmp_path / "cache" / "partial") == []
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    """To be found is to be used."""
    cache = DiskCache(tmp_path, 100)
    for n in range(4):
        put(cache, f"{n}", bytes([n]) * 30, age_seconds=HOUR * (10 - n))
    assert read(cache, "1") is not None
    cache.sweep()
    assert [n for n in range(4) if read(cache, f"{n}") is not None] == [1, 2, 3]
    assert len(files(tmp_path / "names")) == 3


def test_the_cap_is_kept_without_being_asked(tmp_path: Path) -> None:
    """Never more than the cap and what was added since the last sweep."""
    cache = DiskCache(tmp_path, 10_000)
    for n in range(100):
        put(cache, f"{n}", bytes([n]) * 999)
        assert sum(path.stat().st_size for path in files(tmp_path / "content")) <= 10_000 * 1.02


def test_without_room_a_file_can_still_be_read_once(tmp_path: Path) -> None:
    """A cap of nothing keeps nothing; what was just fetched is open."""
    cache = DiskCache(tmp_path, 0)
    into = io.BytesIO()
    with cache.partial() as file:
        file.write(b"fox")
        kept = cache.keep(file, "a", hashlib.sha256(b"fox").hexdigest())
    kept.copy(into)
    kept.close()
    assert into.getvalue() == b"fox"
    assert files(tmp_path) == []


def test_a_damaged_file_is_noticed_and_thrown_away(tmp_path: Path) -> None:
    """After a power cut a file may be short, or hold zeros."""
    cache = DiskCache(tmp_path, 1000)
    put(cache, "a", b"fox")
    files(tmp_path / "content")[0].write_bytes(b"f")
    with pytest.raises(Damaged):
        read(cache, "a")
    assert read(cache, "a") is None


def test_a_name_that_was_written_by_somebody_else_leads_nowhere(tmp_path: Path) -> None:
    """A path in place of a digest opens no file."""
    cache = DiskCache(tmp_path, 1000)
    put(cache, "a", b"fox")
    for content in ("../../../../etc/passwd", "", "x" * 64):
        files(tmp_path / "names")[0].write_text(content)
        assert read(cache, "a") is None


def test_what_a_crash_left_is_swept_away(tmp_path: Path) -> None:
    """A partial file that still grows stays."""
    cache = DiskCache(tmp_path, 1000)
    with cache.partial() as growing:
        left = tmp_path / "partial" / "left"
        left.write_bytes(b"x")
        old = left.stat().st_mtime - PARTIAL_SECONDS - 1
        os.utime(left, (old, old))
        cache.sweep()
        assert files(tmp_path / "partial") == [Path(growing.name)]
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """With the setting that says where it is."""
    (tmp_path / "file").touch()
    with pytest.raises(MissingSetting, match="CONVEYOR_CACHE_FOLDER"), DiskCache(tmp_path / "file", 1).partial():
        pass


def test_the_usual_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the XDG specification says; a relative one does not count."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert usual_folder() == tmp_path / "conveyor"
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert usual_folder() == Path.home() / ".cache" / "conveyor"
