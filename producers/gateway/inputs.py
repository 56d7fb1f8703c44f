"""Which form does a workflow need? Its inputs, in words a page can make fields of."""

from typing import Any, Self

from pydantic import BaseModel, Field

from shared import inputs


class Input(BaseModel):
    """One input of a workflow."""

    name: str = Field(description="The key in `inputs`.", examples=["prompt"])
    kind: inputs.Kind | str = Field(
        description="What to ask for. `image`, `video`, `audio` and `file` are sent as a URL (see `POST /v1/files`), "
        "`images` as a list of URLs; `model` is a URL, or the name of a file the machine has.",
        examples=["text"],
    )
    title: str = Field(description="For people.", examples=["Prompt"])
    description: str | None = None
    default: Any = Field(
        None, description="What the workflow takes when the input is left out, where that can be shown."
    )
    required: bool = Field(False, description="A job without it is refused: the workflow has nothing to use instead.")
    min: float | None = None
    max: float | None = None
    step: float | None = Field(None, description="What a slider moves by; values between two steps are taken, too.")
    choices: list[str] | None = Field(None, description="Of a `choice`.")
    multiline: bool = Field(False, description="Of a `text`: whether it may be a long one.")

    @classmethod
    def of(cls, one: inputs.Input) -> Self:
        """An input of the catalog as it is shown."""
        return cls(
            name=one.name,
            kind=one.kind,
            title=one.label,
            description=one.description,
            default=one.default,
            required=one.required,
            min=one.minimum,
            max=one.maximum,
            step=one.step,
            choices=None if one.choices is None else list(one.choices),
            multiline=one.multiline,
        )
