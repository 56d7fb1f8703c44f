"""How is a workflow's graph written down briefly? A few makers for the nodes the fixtures use.

`Graph` collects nodes under rising ids and returns links to them, so a fixture reads from inputs to outputs. The editor's
side of the workflow (`workflow`, with `nodes` and `widgets_values`) is derived, as far as the API looks at it.
"""

from __future__ import annotations

import json
from typing import Any

Link = list[Any]


class Graph:
    def __init__(self) -> None:
        self.api: dict[str, dict[str, Any]] = {}

    def node(self, class_type: str, **inputs: Any) -> Link:
        node_id = str(len(self.api) + 1)
        self.api[node_id] = {"class_type": class_type, "inputs": inputs}
        return [node_id, 0]

    def input(self, class_type: str, input_id: str, display_name: str = "", description: str = "", **own: Any) -> Link:
        """Add an input node; `class_type` without the prefix the whole family shares.

        The fields stand in the order of the node's widgets, in which the editor writes their values.
        """
        late = {name: value for name, value in own.items() if name.endswith("_url") or name == "bearer_token"}
        early = {name: value for name, value in own.items() if name not in late}
        shown = {"display_name": display_name, "description": description}
        return self.node(f"ComfyUIDeployExternal{class_type}", **{"input_id": input_id, **early, **shown, **late})

    def text(self, input_id: str, default: str, display_name: str = "", description: str = "") -> Link:
        return self.input("Text", input_id, display_name, description, default_value=default)

    def seed(self) -> Link:
        return self.input("Seed", "seed", "Seed", default_value=-1, min_value=1, max_value=2**32 - 1)

    def enum(self, input_id: str, options: list[str], display_name: str = "") -> Link:
        return self.input("Enum", input_id, display_name, default_value=options[0], options=json.dumps(options))

    def slider(self, input_id: str, default: float, low: float, high: float, display_name: str = "") -> Link:
        return self.input("NumberSlider", input_id, display_name, default_value=default, min_value=low, max_value=high)

    def count(self, input_id: str, default: int, low: int, high: int, display_name: str = "") -> Link:
        return self.input(
            "NumberSliderInt", input_id, display_name, default_value=default, min_value=low, max_value=high
        )

    def sampler(self, **more: Any) -> Link:
        """Add the usual middle of an image graph: loader, two encoders, sampler, decoder."""
        model = self.node("CheckpointLoaderSimple", ckpt_name="model.safetensors")
        prompt = self.node("CLIPTextEncode", text=more.pop("prompt", ""), clip=model)
        settings = {"seed": 123, "steps": 20, "cfg": 7.0, **more}
        latent = self.node("KSampler", model=model, positive=prompt, **settings)
        return self.node("VAEDecode", samples=latent)

    def editor(self) -> dict[str, Any]:
        """Give the editor's form of the graph."""
        nodes = [
            {"id": int(node_id), "type": node["class_type"], "widgets_values": _widgets(node)}
            for node_id, node in self.api.items()
        ]
        return {"links": [], "nodes": nodes, "version": 0.4}


def _widgets(node: dict[str, Any]) -> list[Any]:
    inputs = node["inputs"]
    if node["class_type"].startswith("ComfyDeployStd"):
        return [inputs.get("output_id", "")]
    return [value for value in inputs.values() if not isinstance(value, list)]
