"""Flower's settings: one row per job, from the ask to its final state (docs/guides/flower.md).

Flower reads this file as a program after its own variables (`FLOWER_…`) and before its command line.
"""

import os
import re
import sys

import flower.command

from shared.errors import MissingSetting
from shared.secret_files import with_secret_files
from workers.celery import settings as _settings
from workers.monitor.board import board as _board
from workers.monitor.table import with_elapsed as _with_elapsed

#: Its one place to say which application it is; the command line, signals and options stay Flower's own.
flower.command.Flower = _board(_settings)

try:
    _secrets = with_secret_files(os.environ, {"FLOWER_BASIC_AUTH"})
except MissingSetting as _error:
    sys.exit(f"conveyor: {_error}")

#: `name:password`, several between commas; needed for any address but loopback.
basic_auth = [_pair.strip() for _pair in re.split("[,\n]", _secrets.get("FLOWER_BASIC_AUTH", "")) if _pair.strip()]
address = os.environ.get("FLOWER_ADDRESS") or "127.0.0.1"
port = _settings.flower_port
#: Rows come from our records, at each start anew.
persistent = False
tasks_columns = "uuid,name,state,result,runtime,received,worker"
format_task = _with_elapsed
natural_time = True
purge_offline_workers = 300
