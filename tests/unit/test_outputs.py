"""Outputs: every group the API knows, unknown ones as files, none dropped, keys that stay."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.comfydeploy.outputs import RunOutput, run_outputs
from shared.jobs.event import Output
from tasks.outputs import outputs_of
from tests.unit.test_reading import read

READ_AT = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)

#: CONTRACT section 8: every group seen.
GROUPS = ["images", "gifs", "files", "mesh", "text", "model_file", "audio", "text_file", "result", "animated"]


def media(name: str, **fields: Any) -> dict[str, Any]:
    """A media object as `GET /run` shows it."""
    return {
        "url": f"https://cdn.example/outputs/{name}",
        "type": "output",
        "filename": name,
        "is_public": True,
    } | fields


def row(data: Any, *, node: str | None = "9", output_id: str | None = None, row_id: str = "o1") -> dict[str, Any]:
    """One element of a run's outputs."""
    return {"id": row_id, "output_id": output_id, "data": data, "node_meta": {"node_id": node} if node else None}


def outputs(*rows: dict[str, Any]) -> list[Output]:
    """What a job gets for these rows."""
    return outputs_of(read("success", outputs=run_outputs(list(rows))), read_at=READ_AT)


@pytest.mark.parametrize(
    ("group", "name", "kind", "content_type"),
    [
        ("images", "a.png", "image", "image/png"),
        ("images", "a.webp", "image", "image/webp"),
        ("images", "a.gif", "animation", "image/gif"),
        ("images", "a", "image", None),
        ("gifs", "a.gif", "animation", "image/gif"),
        ("gifs", "a.webp", "animation", "image/webp"),
        ("gifs", "a.mp4", "video", "video/mp4"),
        ("animated", "a.png", "animation", "image/png"),
        ("animated", "a", "animation", None),
        ("files", "a.mp4", "video", "video/mp4"),
        ("files", "a.webm", "video", "video/webm"),
        ("files", "a.mp3", "audio", "audio/mpeg"),
        ("files", "a.flac", "audio", "audio/flac"),
        ("files", "a.PNG", "image", "image/png"),
        ("files", "a.glb", "model", "model/gltf-binary"),
        ("files", "a.zip", "file", "application/zip"),
        ("files", "a.safetensors", "file", "application/octet-stream"),
        ("files", "a", "file", None),
        ("mesh", "a.obj", "model", "model/obj"),
        ("mesh", "a", "model", None),
        ("model_file", "a.stl", "model", "model/stl"),
        ("audio", "a.wav", "audio", None),
        ("audio", "a", "audio", None),
        ("text_file", "a.txt", "text", "text/plain"),
        ("latents", "a.unheard", "file", None),
        ("latents", "a.png", "image", "image/png"),
    ],
)
def test_the_medium_is_judged_by_the_file(group: str, name: str, kind: str, content_type: str | None) -> None:
    """The ending decides; the group only when the ending says nothing; an unknown group is a file."""
    (output,) = outputs(row({group: [media(name)]}))
    assert (output.kind, output.filename, output.key) == (kind, name, f"9:{group}:0")
    if content_type:
        assert output.content_type == content_type


@pytest.mark.parametrize("group", [*GROUPS, "never-heard-of"])
def test_no_group_is_dropped(group: str) -> None:
    """Each group comes through with its address, whatever it is called."""
    (output,) = outputs(row({group: [media("thing.bin")]}))
    assert output.url == "https://cdn.example/outputs/thing.bin"


@pytest.mark.parametrize("item", ["a caption", True, 3, 0.5, {"boxes": [1, 2]}, [1, 2]])
def test_what_is_no_file_is_text(item: Any) -> None:
    """Texts, booleans, numbers and objects come through as text."""
    (output,) = outputs(row({"result": [item]}))
    assert output.kind == "text"
    assert output.url is None
    assert output.text


def test_a_name_is_found_in_the_address() -> None:
    """Without a filename the last part of the address serves, unquoted and without its query."""
    (output,) = outputs(row({"images": [{"url": "https://cdn.example/a/my%20cat.png?X-Amz-Expires=3600"}]}))
    assert (output.filename, output.content_type) == ("my cat.png", "image/png")


def test_private_addresses_say_when_they_end() -> None:
    """A private output's address expires within the hour it was signed for; a public one's does not."""
    private, public, unknown = outputs(
        row({"images": [media("a.png", is_public=False), media("b.png"), media("c.png", is_public=None)]})
    )
    assert private.url_expires_at is not None
    assert READ_AT + timedelta(minutes=50) < private.url_expires_at < READ_AT + timedelta(hours=1)
    assert (public.url_expires_at, unknown.url_expires_at) == (None, None)


def test_author_names_travel() -> None:
    """The author's name of an output and the node are on it."""
    (output,) = outputs(row({"images": [media("a.png")]}, output_id="portrait"))
    assert (output.node_id, output.output_id) == ("9", "portrait")


def test_nodes_without_an_id_are_told_apart_by_their_author_names() -> None:
    """Without node ids the author's names make the keys; without either, all count up in one place."""
    keys = [output.key for output in outputs(row({"text": ["a"]}, node=None, output_id="x", row_id="1"))]
    assert keys == ["x:text:0"]
    two = outputs(row({"text": ["a"]}, node=None, row_id="1"), row({"text": ["b"]}, node=None, row_id="2"))
    assert [output.key for output in two] == ["-:text:0", "-:text:1"]


_nodes = st.lists(
    st.tuples(
        st.sampled_from(["3", "9", "12", None]),
        st.sampled_from(["portrait", None]),
        st.dictionaries(
            st.sampled_from([*GROUPS, "new"]), st.lists(st.sampled_from(["t", True]), max_size=3), max_size=3
        ),
    ),
    max_size=6,
)


@given(_nodes, st.randoms(use_true_random=False))
def test_keys_do_not_depend_on_the_order_of_nodes(
    nodes: list[tuple[str | None, str | None, dict[str, list[Any]]]], dice: random.Random
) -> None:
    """However the API orders nodes and groups at this read, the same output has the same key, and none is dropped."""
    rows = [
        RunOutput(
            id=f"o{n}",
            output_id=output_id,
            node_id=node,
            node_class=None,
            data={group: [f"{n}:{group}:{i}" for i, _ in enumerate(items)] for group, items in data.items()},
        )
        for n, (node, output_id, data) in enumerate(nodes)
    ]
    shuffled = []
    for one in dice.sample(rows, len(rows)):
        groups = dice.sample(sorted(one.data), len(one.data))
        shuffled.append(
            RunOutput(
                id=one.id,
                output_id=one.output_id,
                node_id=one.node_id,
                node_class=None,
                data={group: one.data[group] for group in groups},
            )
        )
    first = outputs_of(read("success", outputs=tuple(rows)), read_at=READ_AT)
    second = outputs_of(read("success", outputs=tuple(shuffled)), read_at=READ_AT)
    assert first == second
    assert len({output.key for output in first}) == len(first)
    told = sorted(item for one in rows for items in one.data.values() for item in items)
    assert sorted(output.text or "" for output in first) == told
