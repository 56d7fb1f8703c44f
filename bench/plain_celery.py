"""The design most people write first: a Celery task that submits, sleeps, asks, and sleeps again, holding its slot.

`celery -A bench.plain_celery worker --pool=threads` is measured beside Conveyor by `bench/throughput.py`.
"""

import json
import os
import time
from typing import Any

import httpx
import redis
from celery import Celery

API = os.environ.get("COMFY_DEPLOY_API_URL", "")
REDIS = os.environ.get("REDIS_URL", "")
SLEEP_SECONDS = float(os.environ.get("PLAIN_SLEEP_SECONDS", "2.0"))

app = Celery("plain", broker=REDIS, backend=REDIS)
app.conf.update(worker_prefetch_multiplier=1, task_default_queue="plain", broker_connection_retry_on_startup=True)
http = httpx.Client(timeout=30)
stream = redis.Redis.from_url(REDIS) if REDIS else None


@app.task(name="plain.generate")
def generate(job_id: str, inputs: dict[str, Any]) -> None:
    """Submit, then ask every two seconds (the loop of the product's own design documents) until the run has ended."""
    answer = http.post(f"{API}/run/deployment/queue", json={"deployment_id": "d", "inputs": inputs})
    run_id = answer.json()["run_id"]
    while True:
        time.sleep(SLEEP_SECONDS)
        run = http.get(f"{API}/run/{run_id}").json()
        if run["status"] == "success":
            break
    if stream is not None:
        stream.xadd("plain:results", {"job_id": job_id, "data": json.dumps(run["outputs"])})
