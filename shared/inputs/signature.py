"""What does a workflow take and give? Read once from its graphs, kept in the catalog instead of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

#: `model` is an address or the name of a file the machine has; `any` is not looked at.
Kind = Literal[
    "text", "number", "integer", "boolean", "choice", "image", "images", "video", "audio", "file", "model", "any"
]

#: What is an address, of one file each.
FILES: frozenset[Kind] = frozenset({"image", "video", "audio", "file"})
NUMBERS: frozenset[Kind] = frozenset({"number", "integer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input of a workflow."""

    #: The key in `inputs`; two nodes of one name are one input.
    name: str
    kind: Kind
    #: For people; the name when the author gave none.
    label: str
    description: str | None = None
    #: What holds when it is left out. None also when that is another node's value or an address, which are not shown.
    default: str | float | bool | None = None
    #: Without it the run is known to have nothing to work with.
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    #: What a slider moves by; a value between two steps is good.
    step: float | None = None
    #: Of a `choice`; None for everything else.
    choices: tuple[str, ...] | None = None
    multiline: bool = False

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """An input as it is stored; what a newer process added is left out."""
        known = {name: value for name, value in stored.items() if name in cls.__dataclass_fields__}
        if known.get("choices") is not None:
            known["choices"] = tuple(known["choices"])
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a deployment's version takes and gives."""

    inputs: tuple[Input, ...] = ()
    #: Every input is listed: the graph that runs was read. Else there may be others, such as a seed.
    complete: bool = False
    #: Kinds of outputs to expect, as in `shared.jobs.event.OutputKind`; what cannot be foretold is not among them.
    outputs: tuple[str, ...] = ()
    #: What the author wrote into note nodes, cut short.
    notes: tuple[str, ...] = ()
    by_name: Mapping[str, Input] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {one.name: one for one in self.inputs})

    def stored(self) -> dict[str, Any]:
        """For JSON; `of` reads it back. Fields that say nothing are left out, since there are many inputs."""
        return {
            "inputs": [
                # By identity: a bound of 0 equals False, and says something.
                {
                    n: value
                    for n, value in asdict(one).items()
                    if n == "default" or not (value is None or value is False)
                }
                for one in self.inputs
            ],
            "complete": self.complete,
            "outputs": self.outputs,
            "notes": self.notes,
        }

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """A signature as it is stored."""
        return cls(
            inputs=tuple(Input.of(one) for one in stored.get("inputs", ())),
            complete=bool(stored.get("complete")),
            outputs=tuple(stored.get("outputs", ())),
            notes=tuple(stored.get("notes", ())),
        )
