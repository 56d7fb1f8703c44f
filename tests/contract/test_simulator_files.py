"""Are outputs and uploads real files? Pictures, films, signatures that expire, uploads that can be fetched again."""

from __future__ import annotations

import io
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from simulator import bucket
from simulator.films import webm
from tests.contract.simulator_fixtures.served import PACK, TRAINING, WAN, Simulated, in_process


@pytest.fixture
async def sim() -> AsyncIterator[Simulated]:
    async with in_process(speed=5000) as simulated:
        yield simulated


async def _file(sim: Simulated, deployment: str | None, kind: str, **inputs: Any) -> tuple[str, bytes]:
    run_id = await (sim.submit(inputs=inputs) if deployment is None else sim.submit(deployment, inputs=inputs))
    run = await sim.until(run_id, "success")
    items = next(output["data"][kind] for output in run["outputs"] if kind in output["data"])
    answer = await sim.client.get(items[0]["url"])
    assert answer.status_code == 200
    return answer.headers["content-type"], answer.content


async def test_a_picture_depends_on_prompt_and_seed_only(sim: Simulated) -> None:
    """Same prompt and seed, same bytes; another seed, another picture; 512 px PNG."""
    kind, first = await _file(sim, None, "images", prompt="a boat", seed=5)
    _, again = await _file(sim, None, "images", prompt="a boat", seed=5)
    _, other = await _file(sim, None, "images", prompt="a boat", seed=6)
    assert kind == "image/png"
    assert first == again != other
    with Image.open(io.BytesIO(first)) as picture:
        assert (picture.format, picture.size) == ("PNG", (512, 512))


async def test_without_a_seed_every_run_differs(sim: Simulated) -> None:
    """A seed of -1 or none is rolled anew for each run."""
    _, first = await _file(sim, None, "images", prompt="a boat")
    _, second = await _file(sim, None, "images", prompt="a boat", seed=-1)
    assert first != second


async def test_the_animation_moves(sim: Simulated) -> None:
    """The GIF has several frames."""
    kind, content = await _file(sim, PACK, "gifs", prompt="a boat")
    assert kind == "image/gif"
    with Image.open(io.BytesIO(content)) as picture:
        assert getattr(picture, "n_frames", 1) == 12


async def test_the_film_is_a_webm(sim: Simulated) -> None:
    """The video starts as EBML, names VP8, and holds decodable key frames."""
    kind, content = await _file(sim, WAN, "files", prompt="waves")
    assert kind == "video/webm"
    assert content.startswith(b"\x1a\x45\xdf\xa3")
    assert b"V_VP8" in content
    # A VP8 key frame begins with its start code after three bytes; put it back into WebP and decode it.
    start = content.index(b"\x9d\x01\x2a") - 3
    length = int.from_bytes(content[start - 12 : start - 4], "big") - (1 << 56) - 4
    frame = content[start : start + length]
    padded = frame + b"\x00" * (len(frame) & 1)
    riff = b"RIFF" + struct.pack("<I", 12 + len(padded)) + b"WEBPVP8 " + struct.pack("<I", len(frame)) + padded
    with Image.open(io.BytesIO(riff)) as picture:
        picture.load()
        assert picture.size == (256, 256)


def test_films_are_deterministic() -> None:
    """The same prompt and seed give the same film."""
    assert webm("a", 1, frames=3) == webm.__wrapped__("a", 1, frames=3)


async def test_the_trained_file_is_a_valid_safetensors(sim: Simulated) -> None:
    """The header's length comes first, then JSON."""
    _, content = await _file(sim, TRAINING, "files", name="me")
    (length,) = struct.unpack("<Q", content[:8])
    assert content[8 : 8 + length].startswith(b'{"lora.weight"')


async def test_private_outputs_are_signed_anew_and_expire(sim: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    """A private address needs its signature, which dies; a new read gives a new one."""
    run = await sim.until(await sim.submit(PACK), "success")
    url = run["outputs"][0]["data"]["images"][0]["url"]
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["3600"]
    assert (await sim.client.get(url)).status_code == 200
    assert (await sim.client.get(url.split("?")[0])).status_code == 403
    assert (await sim.client.get(url[:-3] + "000")).status_code == 403
    later = (datetime.now(UTC) + timedelta(hours=1, seconds=2)).timestamp()
    monkeypatch.setattr(bucket.time, "time", lambda: later)
    expired = await sim.client.get(url)
    assert (expired.status_code, expired.headers["content-type"]) == (403, "application/xml")
    assert "Request has expired" in expired.text


async def test_an_upload_can_be_used_and_fetched(sim: Simulated) -> None:
    """The address of an upload is an input value; its bytes come back."""
    answer = await sim.client.post("/api/file/upload", files={"file": ("cat.png", b"bytes", "text/plain")})
    url = answer.json()["file_url"]
    fetched = await sim.client.get(url)
    assert (fetched.content, fetched.headers["content-type"]) == (b"bytes", "image/png")


async def test_a_presigned_put(sim: Simulated) -> None:
    """Bytes PUT to a presigned address can be downloaded; without the signature the PUT is refused."""
    query = {"file_name": "cat.png", "type": "image/png"}
    told = (await sim.client.get("/api/assets/presigned-url", params=query)).json()
    headers = {"Content-Type": "image/png", "x-amz-acl": "public-read"}
    assert (await sim.client.put(told["download_url"], content=b"x", headers=headers)).status_code == 403
    assert (await sim.client.put(told["url"], content=b"picture", headers=headers)).status_code == 200
    assert (await sim.client.get(told["download_url"])).content == b"picture"


async def test_base64_pictures_become_files(sim: Simulated) -> None:
    """An input picture in base64 is stored and replaced by its address."""
    run_id = await sim.submit(inputs={"image": "data:image/png;base64,aGVsbG8="})
    url = (await sim.run(run_id))["workflow_inputs"]["image"]
    assert (await sim.client.get(url)).content == b"hello"
