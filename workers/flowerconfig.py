"""Flower's settings: one row per job, from submit to its final state.

Loopback unless `FLOWER_ADDRESS` says otherwise; put authentication in front before you open it to others.
"""

import os
import sys

from shared.errors import MissingSetting
from shared.secret_files import with_secret_files

try:
    _environ = with_secret_files(os.environ, {"FLOWER_BASIC_AUTH"})
except MissingSetting as error:
    sys.exit(f"conveyor: {error}")
if _pairs := _environ.get("FLOWER_BASIC_AUTH"):
    basic_auth = _pairs.replace("\n", ",").split(",")

address = os.environ.get("FLOWER_ADDRESS", "127.0.0.1")
if address in ("127.0.0.1", "::1", "localhost"):
    # Flower's own guard of its HTTP API; on loopback there is nobody to guard against.
    os.environ.setdefault("FLOWER_UNAUTHENTICATED_API", "true")
port = int(os.environ.get("FLOWER_PORT") or "5555")
max_tasks = 20_000
#: `args` is "workflow for frontend:user"; `result` shows the progress while the run is followed.
tasks_columns = "uuid,args,state,result,runtime,received,worker"
natural_time = True
purge_offline_workers = 300
