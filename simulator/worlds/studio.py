"""What does a small image studio have on ComfyUI Deploy? The fixtures for people and for clients under test.

Every id is fixed and documented in `docs/reference/simulator.md`: machines `a…`, workflows `b…`, versions `c…`,
deployments `d…`, with the number of the workflow in the last digits. Between them the workflows cover every kind of
output and every kind of input; deployments cover both halves of the list, several environments and three tenants.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from simulator.rows import Deployment, Machine, Version, Workflow
from simulator.tables import Tables
from simulator.timestamps import now
from simulator.worlds.nodes import Graph

OWNER, OTHER, ORGANISATION = "user_owner", "user_other", "org_acme"


def fixture_id(kind: str, number: int) -> str:
    """Give the id of a fixture: kind is a (machine), b (workflow), c (version) or d (deployment)."""
    return f"{kind}0000000-0000-4000-8000-{number:012d}"


def studio(tables: Tables) -> None:
    _machines(tables)
    for number, (name, description, graph) in enumerate(
        [
            ("SDXL Portrait", "One portrait, 512 px.", _portrait()),
            ("Flux Dev", "One to four pictures from a prompt.", _flux()),
            ("Wan Video 2.1", "A two-second video, from a prompt or a picture.", _wan()),
            ("Caption Image", "Describe a picture in words.", _caption()),
            ("Image and Video Pack", "Pictures, an animation, a video and a text, in a private bucket.", _pack()),
            ("LoRA Training", "Train a LoRA from a set of pictures. Takes long.", _training()),
            ("Restyle Image", "Redraw a picture in another style.", _restyle()),
            ("Sticker GIF", "A small looping animation.", _sticker()),
        ],
        start=1,
    ):
        _workflow(tables, number, name, description, graph, OWNER, None)
    _workflow(tables, 91, "Somebody Else's Workflow", "Not yours.", _flux(), OTHER, None)
    _workflow(tables, 92, "Acme Logo", "Belongs to the organisation.", _flux(), OWNER, ORGANISATION)
    _deployments(tables)


def _machines(tables: Tables) -> None:
    machines: list[tuple[int, str, str, dict[str, Any]]] = [
        (1, "Image machine", OWNER, {"gpu": "A10G", "concurrency_limit": 8}),
        (2, "Video machine", OWNER, {"gpu": "A100-80GB", "concurrency_limit": 2, "run_timeout": 900}),
        (3, "Small machine", OWNER, {"gpu": "T4", "concurrency_limit": 2, "run_timeout": 120}),
        (4, "Training machine", OWNER, {"gpu": "H100", "concurrency_limit": 1, "run_timeout": 7200}),
        (5, "Own GPU", OWNER, {"type": "classic", "endpoint": "http://127.0.0.1:8188", "gpu": None}),
        (6, "Retired machine", OWNER, {"deleted": True}),
        (91, "Other's machine", OTHER, {}),
        (92, "Acme machine", OWNER, {"org_id": ORGANISATION}),
    ]
    for number, name, user, more in machines:
        machine = Machine(fixture_id("a", number), user, name, **more)
        tables.machines[machine.id] = machine


def _workflow(  # noqa: PLR0917 - a table of fixtures
    tables: Tables, number: int, name: str, description: str, graph: Graph, user: str, org: str | None
) -> None:
    at = now() + timedelta(microseconds=number)
    workflow = Workflow(
        fixture_id("b", number),
        user,
        name,
        org_id=org,
        description=description,
        selected_machine_id=fixture_id("a", 1),
        created_at=at,
        updated_at=at,
    )
    tables.workflows[workflow.id] = workflow
    version = Version(fixture_id("c", number), workflow.id, user, 1, graph.editor(), graph.api, "first", created_at=at)
    tables.versions[version.id] = version


def _deployments(tables: Tables) -> None:
    fluid = {"modal_image_id": "im-STUDIO", "modal_app_id": "ap-STUDIO", "idle_timeout": 60}
    rows: list[tuple[int, int, int, str, dict[str, Any]]] = [
        # number, workflow, machine, environment, more
        (1, 1, 1, "production", {}),
        (2, 2, 1, "production", {**fluid, "gpu": "L40S", "concurrency_limit": 4}),
        (3, 3, 2, "production", {"run_timeout": 900}),
        (4, 4, 3, "production", {}),
        (5, 5, 2, "production", {}),
        (6, 6, 4, "production", {"run_timeout": 7200}),
        (7, 7, 1, "production", {}),
        (8, 8, 1, "production", {}),
        (11, 1, 1, "staging", {}),
        (12, 2, 1, "preview", {}),
        (17, 7, 5, "preview", {}),
        (18, 8, 1, "public-share", {"share_slug": "sticker-gif"}),
        (91, 91, 91, "production", {"user_id": OTHER}),
        (92, 92, 92, "production", {"org_id": ORGANISATION}),
    ]
    for number, workflow, machine, environment, more in rows:
        at = now() + timedelta(microseconds=number)
        deployment = Deployment(
            id=fixture_id("d", number),
            workflow_id=fixture_id("b", workflow),
            workflow_version_id=fixture_id("c", workflow),
            machine_id=fixture_id("a", machine),
            environment=environment,
            created_at=at,
            updated_at=at,
            description=tables.workflows[fixture_id("b", workflow)].description,
            **{"user_id": OWNER, **more},
        )
        tables.deployments[deployment.id] = deployment


def _portrait() -> Graph:
    graph = Graph()
    prompt = graph.text("prompt", "portrait of a lighthouse keeper", "Prompt", "What to draw")
    graph.text("negative_prompt", "blurry", "Negative prompt", "What to avoid")
    steps = graph.input("NumberInt", "steps", "Steps", default_value=30)
    cfg = graph.slider("cfg", 7.0, 1.0, 20.0, "Guidance")
    seed = graph.seed()
    graph.enum("style", ["photo", "anime", "oil painting", "pencil"], "Style")
    graph.input("Lora", "lora", "LoRA", default_lora_name="none", lora_save_name="", lora_url="", bearer_token="")
    image = graph.sampler(prompt=prompt, steps=steps, cfg=cfg, seed=seed)
    graph.node("ComfyDeployOutputImage", images=image, filename_prefix="ComfyUI", output_id="portrait")
    return graph


def _flux() -> Graph:
    graph = Graph()
    prompt = graph.text("prompt", "a quiet valley at dawn", "Prompt", "What to draw")
    count = graph.count("count", 4, 1, 4, "Pictures")
    graph.slider("guidance", 3.5, 1.0, 10.0, "Guidance")
    seed = graph.seed()
    image = graph.sampler(prompt=prompt, seed=seed)
    graph.node("SaveImage", images=image, filename_prefix="flux", count=count)
    return graph


def _wan() -> Graph:
    graph = Graph()
    prompt = graph.text("prompt", "clouds moving over hills", "Prompt", "What happens")
    image = graph.input("Image", "image", "First frame", "Optional", default_value_url="")
    frames = graph.input("NumberInt", "frames", "Frames", default_value=24)
    seed = graph.seed()
    video = graph.node("WanImageToVideo", prompt=prompt, image=image, frames=frames, seed=seed)
    graph.node("ComfyDeployOutputVideo", images=video, fps=12, output_id="video")
    return graph


def _caption() -> Graph:
    graph = Graph()
    image = graph.input("Image", "image", "Picture", "What to describe", default_value_url="")
    graph.enum("length", ["short", "long"], "Length")
    text = graph.node("Florence2Run", image=image)
    graph.node("ShowText", text=text)
    return graph


def _pack() -> Graph:
    graph = Graph()
    prompt = graph.text("prompt", "an island seen from above", "Prompt")
    seed = graph.seed()
    graph.input("Boolean", "upscale", "Upscale", default_value=False)
    image = graph.sampler(prompt=prompt, seed=seed)
    graph.node("SaveImage", images=image, count=2, is_public=False)
    graph.node("PreviewImage", images=image)
    graph.node("VHS_VideoCombine", images=image, format="image/gif", is_public=False)
    video = graph.node("WanTextToVideo", prompt=prompt)
    graph.node("ComfyDeployOutputVideo", images=video, is_public=False)
    graph.node("ShowText", text=prompt)
    return graph


def _training() -> Graph:
    graph = Graph()
    images = graph.input("ImageBatch", "images", "Training pictures", images="[]")
    name = graph.input("TextSingleLine", "name", "Name", default_value="my-lora")
    steps = graph.input("NumberInt", "steps", "Steps", default_value=1000)
    graph.input("Checkpoint", "checkpoint", "Base model", default_value="sd_xl_base_1.0.safetensors")
    trained = graph.node("TrainLora", images=images, steps=steps)
    graph.node("ComfyDeployOutputFile", file=trained, filename=name, output_id="lora")
    return graph


def _restyle() -> Graph:
    graph = Graph()
    graph.input("Image", "image", "Picture", "The picture to redraw", default_value_url="")
    prompt = graph.text("prompt", "as a watercolour", "Style in words")
    strength = graph.slider("strength", 0.6, 0.0, 1.0, "Strength")
    graph.input("Boolean", "upscale", "Upscale", default_value=False)
    seed = graph.seed()
    image = graph.sampler(prompt=prompt, seed=seed, denoise=strength)
    graph.node("ComfyDeployStdOutputImage", images=image, output_id="restyled")
    return graph


def _sticker() -> Graph:
    graph = Graph()
    prompt = graph.text("prompt", "a waving sun", "Prompt")
    seed = graph.seed()
    image = graph.sampler(prompt=prompt, seed=seed)
    graph.node("VHS_VideoCombine", images=image, format="image/gif", output_id="sticker")
    return graph
