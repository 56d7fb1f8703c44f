"""Every shape in which outputs were seen, or may come: read as what they are, with keys that stay, and nothing lost.

CONTRACT section 8 for the API's own; the rest are those of webhooks, of the older servers' answers and of ComfyUI.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.comfydeploy.outputs import run_outputs
from shared.jobs.event import Output
from tasks.outputs import outputs_of
from tests.unit.test_reading import read

READ_AT = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
RECORDED = Path(__file__).resolve().parents[1] / "contract/recorded"
A, B, FILM = "https://cdn.example/a.png", "https://cdn.example/b.png", "https://cdn.example/c.mp4"
#: What stands beside a row's data.
ABOUT = {"id", "output_id", "node_meta", "node_id", "type", "created_at"}
SIGNED = f"{A}?X-Amz-Date=20261120T195500Z&X-Amz-Expires=3600&X-Amz-Signature=ab"


def outputs(raw: Any) -> list[Output]:
    """What a job gets for the `outputs` of an answer."""
    return outputs_of(read("success", outputs=run_outputs(raw)), read_at=READ_AT)


def node(data: Any, node_id: Any = "9", **more: Any) -> dict[str, Any]:
    """One row, as `GET /run` has it."""
    return {"id": "o", "output_id": None, "data": data, "node_meta": {"node_id": node_id}} | more


Said = list[tuple[str, str, str | None]]

#: Raw outputs -> key, kind, and address or text of each.
SHAPES: dict[str, tuple[Any, Said]] = {
    "nothing": (None, []),
    "an empty list": ([], []),
    "an empty object": ({}, []),
    "a file": ([node({"images": [{"url": A, "filename": "a.png"}]})], [("9:images:0", "image", A)]),
    "a bare address": ([node({"images": [A]})], [("9:images:0", "image", A)]),
    "a bare address, no list": ([node({"images": A})], [("9:images:0", "image", A)]),
    "a file, no list": ([node({"files": {"url": FILM}})], [("9:files:0", "video", FILM)]),
    "lists in lists": (
        [node({"images": [[{"url": A}], [{"url": B}]]})],
        [("9:images:0", "image", A), ("9:images:1", "image", B)],
    ),
    "numbers in lists": ([node({"result": [[1, 2], [3]]})], [("9:result:0", "text", "[1, 2]"), ("9:result:1", "text", "[3]")]),
    "several groups": (
        [node({"text": ["a fox"], "images": [{"url": A}], "result": [True]})],
        [("9:images:0", "image", A), ("9:result:0", "text", "true"), ("9:text:0", "text", "a fox")],
    ),
    "several nodes": (
        [node({"images": [B]}, "12"), node({"images": [A]}, "1")],
        [("1:images:0", "image", A), ("12:images:0", "image", B)],
    ),
    "a node in a subgraph": ([node({"images": [A]}, "12:3")], [("12:3:images:0", "image", A)]),
    "a number for a node": ([node({"images": [A]}, 7)], [("7:images:0", "image", A)]),
    "no node": ([node({"images": [A]}, None, output_id="portrait")], [("portrait:images:0", "image", A)]),
    "neither node nor name": ([{"data": {"images": [A]}}], [("-:images:0", "image", A)]),
    "the row of a later time comes later": (
        [node({"images": [B]}, id="1", created_at="2026-11-20T20:00:02Z"), node({"images": [A]}, id="2", created_at="2026-11-20T20:00:01Z")],
        [("9:images:0", "image", A), ("9:images:1", "image", B)],
    ),
    "an address that is a text": ([node({"text": [A]})], [("9:text:0", "text", A)]),
    "a sentence with an address": ([node({"result": [f"see {A}"]})], [("9:result:0", "text", f"see {A}")]),
    "booleans, numbers, objects": (
        [node({"result": [False, 0, 1.5, {"boxes": [[1, 2]], "name": "größe"}]})],
        [
            ("9:result:0", "text", "false"),
            ("9:result:1", "text", "0"),
            ("9:result:2", "text", "1.5"),
            ("9:result:3", "text", '{"boxes": [[1, 2]], "name": "größe"}'),
        ],
    ),
    "nulls": ([None, node(None), node({"images": None, "text": [None, ""]})], [("9:text:0", "text", "")]),
    "an error": ([node({"error": {"message": "boom"}})], [("9:error:0", "text", '{"message": "boom"}')]),
    "data that is a list": ([node([{"node": 1}, "t"])], [("9:data:0", "text", '{"node": 1}'), ("9:data:1", "text", "t")]),
    "data that is a list of files": ([node([{"url": A}])], [("9:data:0", "image", A)]),
    "data that is a file": ([node({"url": FILM})], [("9:files:0", "video", FILM)]),
    "data that is an address": ([node(A)], [("9:files:0", "image", A)]),
    "a file with data": ([node({"images": [{"url": A, "data": 1}]})], [("9:images:0", "image", A)]),
    "data that is a text": ([node("a fox")], [("9:data:0", "text", "a fox")]),
    "a row without `data`": (
        [{"images": [{"url": A}], "node_meta": {"node_id": "3"}, "run_id": "r"}],
        [("3:images:0", "image", A)],
    ),
    "rows that are files": ([{"url": A}, B], [("-:files:0", "image", A), ("-:files:1", "image", B)]),
    "rows that are texts": (["a fox"], [("-:data:0", "text", "a fox")]),
    "one row, no list": (node({"images": [A]}), [("9:images:0", "image", A)]),
    "one file, no list": ({"url": A}, [("-:files:0", "image", A)]),
    "one address, no list": (A, [("-:files:0", "image", A)]),
    "a row with an address beside its data": (
        [node({"images": [A]}, url="https://cdn.example/thumbnail.png")],
        [("9:images:0", "image", A)],
    ),
    "ComfyUI's history": (
        {"9": {"images": [{"url": A, "type": "output"}]}, "4": {"text": ["a fox"]}},
        [("4:text:0", "text", "a fox"), ("9:images:0", "image", A)],
    ),
    "pictures that move": (
        [node({"images": [{"url": "https://cdn.example/w.webp"}], "animated": [True]})],
        [("9:images:0", "animation", "https://cdn.example/w.webp")],
    ),
    "pictures that do not": ([node({"images": [A], "animated": [False]})], [("9:images:0", "image", A)]),
    "one of two moves": (
        [node({"images": [A, B], "animated": [False, True]})],
        [("9:images:0", "image", A), ("9:images:1", "animation", B)],
    ),
    "flags without pictures": ([node({"animated": [True]})], [("9:animated:0", "text", "true")]),
    "a preview with an address": ([node({"images": [{"url": A, "type": "temp"}]})], [("9:images:0", "image", A)]),
    "a preview without one": (
        [node({"images": [{"filename": "t.png", "subfolder": "", "type": "temp"}], "text": ["x"]})],
        [("9:text:0", "text", "x")],
    ),
    "a file without an address": (
        [node({"images": [{"filename": "a.png", "type": "output"}]})],
        [("9:images:0", "text", '{"filename": "a.png", "type": "output"}')],
    ),
    "a group whose name would make two keys one": (
        [node({"b:images": [A]}, "a"), node({"images": [B]}, "a:b")],
        [("a:b_images:0", "image", A), ("a:b:images:0", "image", B)],
    ),
    "a group nobody knows": ([node({"latents": [{"url": "https://cdn.example/x.latent"}]})], [("9:latents:0", "file", "https://cdn.example/x.latent")]),
    "half a character": ([node({"text": ["\ud83e"]})], [("9:text:0", "text", "?")]),
    "an address no parser takes": ([node({"images": [{"url": "http://[half"}]})], [("9:images:0", "image", "http://[half")]),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_is_read_as_what_it_is(shape: str) -> None:
    """One row of the table: key, kind, and address or text of everything in it."""
    raw, said = SHAPES[shape]
    found = [
        (output.key, str(output.kind), output.url if output.url is not None else output.text) for output in outputs(raw)
    ]
    assert found == said


@pytest.mark.parametrize(
    ("item", "group", "kind", "content_type"),
    [
        ({"filename": "a", "content_type": "video/mp4"}, "images", "video", "video/mp4"),
        ({"filename": "a.bin", "mime_type": "audio/mpeg; x=y"}, "files", "audio", "audio/mpeg"),
        ({"filename": "a.gif", "content_type": "IMAGE/WEBP"}, "gifs", "animation", "image/webp"),
        ({"filename": "a.png", "content_type": "application/octet-stream"}, "files", "image", "image/png"),
        ({"filename": "a.png", "content_type": "nonsense"}, "files", "image", "image/png"),
        ({"filename": "a.glb", "content_type": "application/octet-stream"}, "files", "model", "model/gltf-binary"),
        ({"filename": "a", "format": "video/h264-mp4"}, "gifs", "video", None),
        ({"filename": "a.mp4", "format": "video/h264-mp4"}, "gifs", "video", "video/mp4"),
        ({"filename": "a", "format": "image/gif"}, "gifs", "animation", None),
        ({"filename": "a"}, "audio", "audio", None),
        ({}, "images", "image", None),
    ],
)
def test_content_type_then_ending_then_group(
    item: dict[str, Any], group: str, kind: str, content_type: str | None
) -> None:
    """What was told counts when it tells something; then the name; then where it stood."""
    (output,) = outputs([node({group: [{"url": "https://cdn.example/"} | item]})])
    assert (output.kind, output.content_type) == (kind, content_type)


def test_a_signature_says_when_an_address_ends() -> None:
    """Also when nobody says that the bucket is private; a minute less, so that nobody comes too late."""
    (output,) = outputs([node({"images": [SIGNED]})])
    assert output.url_expires_at == datetime(2026, 11, 20, 20, 54, tzinfo=UTC)
    assert output.url_expires_at < READ_AT + timedelta(hours=1)


def test_a_picture_inside_its_address_has_a_type_and_no_name() -> None:
    """`data:` addresses: their content is no name."""
    (output,) = outputs([node({"images": [{"url": "data:image/png;base64,iVBORw0KGgo="}]})])
    assert (output.kind, output.content_type, output.filename) == ("image", "image/png", None)


def test_a_size_that_was_told_is_passed_on() -> None:
    """Whole and not negative, or not at all."""
    sizes = [
        output.size for output in outputs([node({"files": [{"url": A, "size": n} for n in (7, "8", -1, 1.5, None)]})])
    ]
    assert sizes == [7, 8, None, None, None]


# -- nothing is lost ----------------------------------------------------------------------------------------------------


def addresses(value: Any) -> Iterator[str]:
    """Every address somewhere in it."""
    if isinstance(value, dict):
        for one in value.values():
            yield from addresses(one)
    elif isinstance(value, list):
        for one in value:
            yield from addresses(one)
    elif isinstance(value, str):
        yield from re.findall(r"https?://[^\s\"]+", value)


def recorded() -> Iterator[Any]:
    """The `outputs` of every recorded exchange, whoever said them."""

    def within(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            if value.get("outputs"):
                yield value["outputs"]
            for one in value.values():
                yield from within(one)
        elif isinstance(value, list):
            for one in value:
                yield from within(one)

    for path in sorted(RECORDED.rglob("*.json")):
        yield from within(json.loads(path.read_text()))


def test_no_recorded_output_is_lost() -> None:
    """All addresses and texts the real server was seen to send come through, each under a key of its own."""
    seen = list(recorded())
    assert len(seen) > 10
    for raw in seen:
        check(raw)


_leaf = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([A, B, FILM, SIGNED, f"see {A}", "http://[half", "data:,x"])
)
_names = st.sampled_from(
    [
        "url",
        "filename",
        "type",
        "images",
        "animated",
        "data",
        "text",
        "node_meta",
        "node_id",
        "output_id",
        "id",
        "created_at",
        "format",
        "content_type",
        "is_public",
        "a:b",
        "\ud800",
    ]
)
_json = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=4), max_leaves=25
)
_row = st.fixed_dictionaries(
    {}, optional={"data": _json, "node_meta": _json, "output_id": _json, "id": _json, "created_at": _json}
)


@given(st.lists(_row | _json, max_size=4) | _json)
def test_whatever_comes_is_read_and_keeps_its_addresses(raw: Any) -> None:
    """Never an error; keys are unique and the same at the next read; addresses are not lost."""
    check(raw)


def check(raw: Any) -> None:
    """What holds for every `outputs`."""
    found = outputs(raw)
    assert outputs(raw) == found
    keys = [output.key for output in found]
    assert len(set(keys)) == len(keys)
    for output in found:
        assert Output.model_validate_json(output.model_dump_json()) == output
        assert output.url is not None or output.text is not None
    told = " ".join(f"{output.url} {output.text}" for output in found)
    for address in meant(raw):
        assert address in told


def meant(raw: Any) -> Iterator[str]:
    """The addresses that are somewhere in the data of it: not beside the data, nor beside a file's own address."""
    match raw:
        case list():
            rows = raw
        case dict() if "data" in raw or is_file(raw):
            rows = [raw]
        case dict():
            rows = list(raw.values())
        case _:
            rows = [raw] if isinstance(raw, str) and raw.startswith("http") and " " not in raw else []
    for row in rows:
        data = row["data"] if isinstance(row, dict) and "data" in row else row
        if isinstance(data, dict) and not is_file(data):
            beside = ABOUT if data is row else set()
            for kind, items in data.items():
                if kind not in beside:
                    yield from of_items(items)
        else:
            yield from of_items(data)


def of_items(items: Any) -> Iterator[str]:
    for item in items if isinstance(items, list) else [items]:
        if isinstance(item, list):
            yield from of_items(item)
        elif is_file(item):
            yield from addresses(item["url"])
        elif not (isinstance(item, dict) and item.get("type") == "temp"):
            yield from addresses(item)


def is_file(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("url"), str) and value["url"] != ""
