"""The ComfyUI Deploy API, as far as Conveyor uses it: `ComfyDeploy` and what its methods give.

Start at `client.py`. One resource a file: `runs` (with `run`, `outputs` and `failure`), `deployments`, `workflows`,
`versions`, `machines`, `files`, `assets`, `prices`, `progress_stream`.
"""

from shared.comfydeploy.assets import Asset
from shared.comfydeploy.base_url import api_root
from shared.comfydeploy.client import ComfyDeploy, Observe, Timeouts
from shared.comfydeploy.deployments import Deployment, InputType
from shared.comfydeploy.files import PresignedUpload, UploadedFile
from shared.comfydeploy.machines import Machine, Serverless
from shared.comfydeploy.outputs import Item, MediaItem, RunOutput, run_outputs
from shared.comfydeploy.progress_stream import ProgressEvent
from shared.comfydeploy.run import FINAL, ListedRun, Run, RunStatus
from shared.comfydeploy.runs import CancelAnswer
from shared.comfydeploy.versions import Version
from shared.comfydeploy.workflows import Workflow

__all__ = [
    "FINAL",
    "Asset",
    "CancelAnswer",
    "ComfyDeploy",
    "Deployment",
    "InputType",
    "Item",
    "ListedRun",
    "Machine",
    "MediaItem",
    "Observe",
    "PresignedUpload",
    "ProgressEvent",
    "Run",
    "RunOutput",
    "RunStatus",
    "Serverless",
    "Timeouts",
    "UploadedFile",
    "Version",
    "Workflow",
    "api_root",
    "run_outputs",
]
