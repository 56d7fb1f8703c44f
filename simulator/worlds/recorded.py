"""Which objects did the recorded exchanges run against? The same ids, names, tenants and graphs, in the same order.

Made for replaying `tests/contract/recorded/captures.json`; of no use to people.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from simulator.rows import Deployment, Machine, Version, Workflow
from simulator.tables import Tables
from simulator.timestamps import now

EDITOR: dict[str, Any] = {
    "links": [],
    "nodes": [
        {"id": 22, "type": "KSampler", "widgets_values": [123, "randomize", 20]},
        {"id": 23, "type": "ComfyDeployOutputImage", "widgets_values": ["ComfyUI", "webp", 80, "output_images"]},
        {"id": 24, "type": "ComfyDeployStdOutputImage", "widgets_values": ["std_out"]},
        {"id": 25, "type": "ComfyDeployStdOutputAny", "widgets_values": ["std_any"]},
    ],
    "version": 0.4,
}


def _external(class_type: str, input_id: str, **own: Any) -> dict[str, Any]:
    return {"class_type": f"ComfyUIDeployExternal{class_type}", "inputs": {"input_id": input_id, **own}}


UNNAMED = {"display_name": "", "description": ""}
API_GRAPH: dict[str, Any] = {
    "1": _external("Text", "prompt", default_value="a cat", display_name="Prompt", description="What to draw"),
    "2": _external("TextAny", "any_text", default_value="x"),
    "3": _external("TextSingleLine", "one_line", default_value=""),
    "4": _external("Image", "input_image", **UNNAMED, default_value_url="https://example.com/a.png"),
    "5": _external("ImageAlpha", "mask", **UNNAMED),
    "6": _external("Number", "cfg", default_value=7.5),
    "7": _external("NumberInt", "steps", default_value=20),
    "8": _external(
        "Lora", "lora", default_lora_name="a.safetensors", lora_save_name="", **UNNAMED, lora_url="", bearer_token=""
    ),
    "9": _external("Checkpoint", "ckpt", default_value="sd_xl.safetensors"),
    "10": _external("ImageBatch", "images", images="[]"),
    "11": _external("Video", "video", force_rate=0, force_size="Disabled"),
    "12": _external("Boolean", "hires", default_value=False),
    "13": _external("NumberSlider", "denoise", default_value=0.5, min_value=0, max_value=1),
    "14": _external("NumberSliderInt", "count", default_value=1, min_value=0, max_value=10),
    "15": _external("Enum", "style", default_value="anime", options='["anime","photo"]'),
    "16": _external("EXR", "exr", exr_file="", tonemap="sRGB"),
    "17": _external("Audio", "audio", audio_file=""),
    "18": _external("File", "file", file_url=""),
    "19": _external("Seed", "seed", default_value=-1, min_value=1, max_value=4294967295),
    "20": _external("FaceModel", "face", face_model_url=""),
    "21": {"class_type": "ComfyDeployWebscoketImageInput", "inputs": {"input_id": "ws_image"}},
    "22": {"class_type": "KSampler", "inputs": {"seed": 123, "steps": ["7", 0], "cfg": ["6", 0]}},
    "23": {"class_type": "SaveImage", "inputs": {"images": ["22", 0], "filename_prefix": "ComfyUI"}},
}


def _id(tail: str) -> str:
    return f"00000000-0000-0000-0000-0000000000{tail}"


def recorded(tables: Tables) -> None:
    for row in _rows():
        tables_by_row: dict[type, dict[str, Any]] = {
            Machine: tables.machines,
            Workflow: tables.workflows,
            Version: tables.versions,
            Deployment: tables.deployments,
        }
        table = tables_by_row[type(row)]
        # Each row a little later than the one before: listings are ordered by time.
        row.created_at = row.updated_at = now() + timedelta(milliseconds=len(tables.deployments) + len(table))
        table[row.id] = row


def _rows() -> list[Machine | Workflow | Version | Deployment]:
    owner, other = "user_owner", "user_other"

    def deployment(  # noqa: PLR0917 - a table of fixtures
        tail: str, user: str, workflow: str, version: str, machine: str, env: str, **more: Any
    ) -> Deployment:
        return Deployment(_id(tail), user, _id(workflow), _id(version), _id(machine), env, **more)

    return [
        Machine(_id("a1"), owner, "SDXL machine"),
        Machine(_id("a2"), owner, "Own GPU", type="classic", endpoint="http://127.0.0.1:8188"),
        Machine(_id("a3"), other, "Other's machine"),
        Machine(_id("a4"), owner, "Deleted machine", deleted=True),
        Workflow(_id("b1"), owner, "SDXL txt2img", selected_machine_id=_id("a1")),
        Workflow(_id("b2"), owner, "Flux upscale"),
        Workflow(_id("b3"), owner, "Deleted workflow", deleted=True),
        Workflow(_id("b4"), other, "Other's workflow"),
        Version(_id("c1"), _id("b1"), owner, 1, EDITOR, API_GRAPH, "v1"),
        Version(_id("c2"), _id("b1"), owner, 2, EDITOR, API_GRAPH, "v2"),
        Version(_id("c3"), _id("b3"), owner, 1, EDITOR, API_GRAPH, "v1"),
        Version(_id("c4"), _id("b4"), other, 1, EDITOR, API_GRAPH, "v1"),
        Version(_id("c5"), _id("b2"), owner, 1, EDITOR, None, "v1"),
        deployment("d1", owner, "b1", "c2", "a1", "production"),
        deployment("d2", owner, "b1", "c2", "a1", "staging", modal_image_id="im-FLUID", gpu="L4"),
        deployment("d3", owner, "b1", "c1", "a1", "public-share", share_slug="owner_sdxl"),
        deployment("d4", other, "b4", "c4", "a3", "production"),
        deployment("d5", owner, "b3", "c3", "a1", "production"),
        deployment("d6", owner, "b1", "c2", "a2", "preview"),
        deployment("d7", owner, "b2", "c5", "a1", "production"),
    ]
