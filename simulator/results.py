"""What does a run produce? Decided by the output nodes of its workflow's graph, so that any graph works.

A node class stands for a kind of output below; unknown classes produce nothing. Pictures are recipes in the bucket, drawn
when somebody downloads them. Each result is what the worker would post: data with *raw* media objects (extra keys such as
`format` included) and the node it came from.

The seed: the value of an input that feeds a seed node if it is valid, otherwise random, as upstream re-rolls it.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

from simulator import films, pictures
from simulator.bucket import Bucket, StoredObject
from simulator.rows import Run

Graph = dict[str, Any]

IMAGE_NODES = ("SaveImage", "ComfyDeployOutputImage", "ComfyDeployStdOutputImage")
GIF_NODES = ("VHS_VideoCombine",)
VIDEO_NODES = ("ComfyDeployOutputVideo", "SaveWEBM")
TEXT_NODES = ("ShowText", "ComfyDeployOutputText")
FILE_NODES = ("ComfyDeployOutputFile",)
PREVIEW_NODES = ("PreviewImage",)
OUTPUT_NODES = (*IMAGE_NODES, *GIF_NODES, *VIDEO_NODES, *TEXT_NODES, *FILE_NODES, *PREVIEW_NODES)
TRAINING_NODES = ("TrainLora",)
VIDEO_WORK = ("WanImageToVideo", "WanTextToVideo")


def work_of(graph: Graph) -> str:
    """Tell which kind of work a graph is: the name of its line in the `durations` setting."""
    classes = {node.get("class_type") for node in graph.values()}
    if classes.intersection(TRAINING_NODES):
        return "training"
    if classes.intersection(VIDEO_WORK) or classes.intersection(VIDEO_NODES):
        return "video"
    if classes.intersection(TEXT_NODES) and not classes.intersection(IMAGE_NODES):
        return "text"
    return "image"


class Results:
    """The outputs of one run, worked out from its graph and its inputs."""

    def __init__(self, run: Run, graph: Graph, bucket: Bucket, seed: int) -> None:
        self._run, self._graph, self._bucket = run, graph, bucket
        # The same dice for every output of a run, so that one random seed serves them all.
        self._dice = random.Random(f"{seed}:{run.sequence}:results")
        self.prompt = self._prompt()
        self.seed = self._seed()

    def produce(self, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give (data, node_meta) of the graph's n-th output node."""
        found = [item for item in self._graph.items() if item[1].get("class_type") in OUTPUT_NODES]
        node_id, node = found[index]
        make = next(make for classes, make in self._makers() if node["class_type"] in classes)
        meta = {"node_id": node_id}
        if node["class_type"] not in VIDEO_NODES:
            # Why not for all: the current node sends only the id for what it regrouped as `files`.
            meta["node_class"] = node["class_type"]
        return make(node_id, node.get("inputs", {})), meta

    def _makers(self) -> list[tuple[tuple[str, ...], Callable[[str, dict[str, Any]], dict[str, Any]]]]:
        return [
            (IMAGE_NODES, self._images),
            (GIF_NODES, self._gif),
            (VIDEO_NODES, self._video),
            (TEXT_NODES, self._text),
            (FILE_NODES, self._file),
            (PREVIEW_NODES, self._preview),
        ]

    # --- what the graph was given ---

    def value(self, given: Any) -> Any:
        """Follow a link `["4", 0]` to the input node it comes from and give the run's value for it."""
        if not (isinstance(given, list) and len(given) == 2 and isinstance(given[0], str) and given[0] in self._graph):
            return given
        node = self._graph[given[0]].get("inputs", {})
        if "input_id" not in node:
            return None
        return self._run.workflow_inputs.get(node["input_id"], node.get("default_value"))

    def _prompt(self) -> str:
        sent = self._run.workflow_inputs
        for key in ("prompt", "text", "caption"):
            if isinstance(sent.get(key), str) and sent[key]:
                return str(sent[key])
        for node in self._graph.values():
            values = node.get("inputs", {})
            if str(node.get("class_type", "")).startswith("ComfyUIDeployExternalText"):
                told = sent.get(values.get("input_id", ""), values.get("default_value"))
                if isinstance(told, str) and told:
                    return told
        pictures_sent = [value for value in sent.values() if isinstance(value, str) and value.startswith("http")]
        return f"after {pictures_sent[0].split('?')[0].rsplit('/', 1)[-1]}" if pictures_sent else "untitled"

    def _seed(self) -> int:
        for node in self._graph.values():
            values = node.get("inputs", {})
            if node.get("class_type") == "ComfyUIDeployExternalSeed":
                told = self._run.workflow_inputs.get(values.get("input_id", ""), values.get("default_value"))
                low, high = values.get("min_value", 0), values.get("max_value", 2**32)
                if isinstance(told, int) and not isinstance(told, bool) and low <= told <= high:
                    return told
        return self._dice.randrange(1, 2**32)

    # --- the kinds of output ---

    def _images(self, node_id: str, values: dict[str, Any]) -> dict[str, Any]:
        count = self.value(values.get("count", 1))
        count = count if isinstance(count, int) and 1 <= count <= 16 else 1
        return {"images": [self._image(node_id, values, index) for index in range(count)]}

    def _image(self, node_id: str, values: dict[str, Any], index: int) -> dict[str, Any]:
        prompt, seed = self.prompt, self.seed + index
        name = f"ComfyUI_{node_id}_{index + 1:05d}_.png"
        return self._media(name, "image/png", lambda: pictures.png(prompt, seed), values)

    def _gif(self, node_id: str, values: dict[str, Any]) -> dict[str, Any]:
        prompt, seed = self.prompt, self.seed
        media = self._media(f"AnimateDiff_{node_id}_00001.gif", "image/gif", lambda: pictures.gif(prompt, seed), values)
        return {"gifs": [{**media, "format": "image/gif", "frame_rate": 11.0}]}

    def _video(self, node_id: str, values: dict[str, Any]) -> dict[str, Any]:
        prompt, seed = self.prompt, self.seed
        return {
            "files": [self._media(f"Wan_{node_id}_00001.webm", "video/webm", lambda: films.webm(prompt, seed), values)]
        }

    def _text(self, _node_id: str, _values: dict[str, Any]) -> dict[str, Any]:
        about = self.prompt
        light = self._dice.choice(["soft", "low", "warm", "cold", "clear"])
        return {"text": [f"A picture of {about}, hills under {light} light, in the style of a simulator."]}

    def _file(self, node_id: str, values: dict[str, Any]) -> dict[str, Any]:
        name = self.value(values.get("filename")) or f"file_{node_id}"
        seed = self.seed
        return {
            "files": [
                self._media(f"{name}.safetensors", "application/octet-stream", lambda: _safetensors(seed), values)
            ]
        }

    def _preview(self, node_id: str, _values: dict[str, Any]) -> dict[str, Any]:
        # A temporary preview has no url, so it does not fit the model and vanishes from reads and hooks.
        return {"images": [{"filename": f"ComfyUI_temp_{node_id}_00001_.png", "subfolder": "", "type": "temp"}]}

    def _media(self, name: str, content_type: str, body: Callable[[], bytes], values: dict[str, Any]) -> dict[str, Any]:
        is_public = values.get("is_public", True)
        key = f"outputs/runs/{self._run.id}/{name}"
        self._bucket.put(key, StoredObject(content_type, body, is_public))
        media = {
            "url": self._bucket.url(key),
            "type": "output",
            "filename": name,
            "is_public": is_public,
            "subfolder": "",
            "upload_duration": round(self._dice.uniform(0.2, 1.2), 2),
        }
        if values.get("output_id"):
            media["output_id"] = values["output_id"]
        return media


def _safetensors(seed: int) -> bytes:
    """Make a tiny but valid LoRA file."""
    body = random.Random(seed).randbytes(4096)
    header = json.dumps({"lora.weight": {"dtype": "F32", "shape": [1024], "data_offsets": [0, len(body)]}}).encode()
    return struct.pack("<Q", len(header)) + header + body
