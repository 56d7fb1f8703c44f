"""Which routes are there? The API's, in the order in which upstream declares them, and the simulator's own.

The order matters twice: for which route answers, and for the `Allow` header of a 405, which names the first that matches.
"""

from __future__ import annotations

from simulator.routes import (
    control,
    deployments,
    files,
    listings,
    machines,
    objects,
    platform,
    runs,
    streams,
    submit,
    versions,
    workers,
    workflows,
)

API_ROUTERS = (
    submit.router,
    runs.router,
    listings.router,
    workflows.router,
    versions.router,
    deployments.router,
    machines.router,
    files.router,
    streams.router,
    platform.router,
    workers.router,
)
CONTROL_ROUTERS = (control.router, objects.router)
