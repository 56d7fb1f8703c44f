"""Which node classes are inputs, and where does each keep what? CONTRACT section 15, also those the API leaves out.

`widgets` are the fields in the order in which the editor writes their values, without those that can only be linked.
"""

from dataclasses import dataclass

from shared.inputs.signature import Kind

PREFIX = "ComfyUIDeployExternal"


@dataclass(frozen=True, slots=True)
class NodeClass:
    """One class of input nodes."""

    kind: Kind
    widgets: tuple[str, ...]
    #: Fields that stand in when the input is left out, the first that says something wins.
    defaults: tuple[str, ...] = ("default_value",)
    multiline: bool = False


_SHOWN = ("display_name", "description")
_PLAIN = ("input_id", "default_value", *_SHOWN)
_SLIDER = ("input_id", "default_value", "min_value", "max_value", *_SHOWN)

CLASSES: dict[str, NodeClass] = {
    f"{PREFIX}Text": NodeClass("text", _PLAIN, multiline=True),
    f"{PREFIX}TextAny": NodeClass("text", _PLAIN, multiline=True),
    f"{PREFIX}TextSingleLine": NodeClass("text", _PLAIN),
    f"{PREFIX}Image": NodeClass(
        "image", ("input_id", *_SHOWN, "default_value_url"), ("default_value", "default_value_url")
    ),
    f"{PREFIX}ImageAlpha": NodeClass("image", ("input_id", *_SHOWN)),
    f"{PREFIX}ImageBatch": NodeClass("images", ("input_id", "images", *_SHOWN), ("default_value", "images")),
    f"{PREFIX}Number": NodeClass("number", _PLAIN),
    f"{PREFIX}NumberInt": NodeClass("integer", _PLAIN),
    f"{PREFIX}NumberSlider": NodeClass("number", _SLIDER),
    f"{PREFIX}NumberSliderInt": NodeClass("integer", _SLIDER),
    f"{PREFIX}Boolean": NodeClass("boolean", _PLAIN),
    f"{PREFIX}Enum": NodeClass("choice", ("input_id", "default_value", "options", *_SHOWN)),
    f"{PREFIX}Lora": NodeClass(
        "model",
        ("input_id", "default_lora_name", "lora_save_name", *_SHOWN, "lora_url", "bearer_token"),
        ("default_lora_name", "lora_url"),
    ),
    f"{PREFIX}Checkpoint": NodeClass("model", _PLAIN),
    f"{PREFIX}Video": NodeClass("video", ("input_id",)),
    f"{PREFIX}Audio": NodeClass("audio", ("input_id", "audio_file", *_SHOWN), ("default_value", "audio_file")),
    f"{PREFIX}EXR": NodeClass(
        "file", ("input_id", "exr_file", "tonemap", *_SHOWN), ("default_image", "default_value", "exr_file")
    ),
    f"{PREFIX}File": NodeClass("file", ("input_id", *_SHOWN, "file_url"), ("file_url",)),
    f"{PREFIX}Seed": NodeClass("integer", _SLIDER),
    f"{PREFIX}FaceModel": NodeClass(
        "model",
        ("input_id", "default_face_model_name", "face_model_save_name", *_SHOWN, "face_model_url"),
        ("default_face_model_name", "face_model_url"),
    ),
    f"{PREFIX}Vid": NodeClass("text", ("input_id", "default_value")),
    # Only for realtime sessions: what a job gives it is nobody's business here.
    "ComfyDeployWebscoketImageInput": NodeClass("any", ("input_id",)),
}

SEED = f"{PREFIX}Seed"

#: Any class may carry an `input_id`, and its nodes get the value (CONTRACT section 4); what it may be is not known.
UNKNOWN = NodeClass("any", ("input_id",))

#: Output nodes by class; `VHS_VideoCombine` makes what its `format` says.
OUTPUTS: dict[str, str] = {
    "SaveImage": "image",
    "SaveImageWebsocket": "image",
    "PreviewImage": "image",
    "ComfyDeployOutputImage": "image",
    "ComfyDeployStdOutputImage": "image",
    "ComfyDeployOutputEXR": "image",
    "SaveAnimatedWEBP": "animation",
    "SaveAnimatedPNG": "animation",
    "SaveVideo": "video",
    "SaveWEBM": "video",
    "ComfyDeployOutputVideo": "video",
    "SaveAudio": "audio",
    "SaveAudioMP3": "audio",
    "SaveAudioOpus": "audio",
    "PreviewAudio": "audio",
    "ComfyDeployOutputAudio": "audio",
    "ComfyDeployOutputText": "text",
    "ShowText": "text",
    "ShowText|pysssss": "text",
    "PreviewAny": "text",
    "SaveGLB": "model",
    "Preview3D": "model",
    "ComfyDeployOutputFile": "file",
}
NOTES = frozenset({"Note", "MarkdownNote"})
