"""Put jobs in from the command line, and watch them if asked to."""

import json
from dataclasses import dataclass, field
from typing import Any

import typer

from producers.cli.inputs import read_inputs
from producers.cli.outcome import OK
from producers.producer import Producer
from shared.errors import InvalidInput, Problem
from shared.jobs.request import JobRequest


@dataclass
class Order:
    """What was typed."""

    #: Fields of the request, except its inputs.
    fields: dict[str, Any]
    inputs: list[str]
    count: int
    wait: bool
    #: Hold the inputs against what the workflow takes.
    validate: bool
    as_json: bool
    #: The jobs, once they are accepted.
    job_ids: list[str] = field(default_factory=list)

    def requests(self) -> list[JobRequest]:
        """The jobs asked for. Raises `InvalidInput`; all are alike, so each problem is told once."""
        problems: list[Problem] = []
        inputs: dict[str, Any] = {}
        try:
            inputs = read_inputs(self.inputs)
        except InvalidInput as error:
            problems += error.problems
        try:
            first = JobRequest.read(self.fields | {"inputs": inputs})
        except InvalidInput as error:
            raise InvalidInput(problems + error.problems) from None
        if problems:
            raise InvalidInput(problems)
        key = first.idempotency_key
        if key is None or self.count == 1:
            return [first] * self.count
        return [
            JobRequest.read(self.fields | {"inputs": inputs, "idempotency_key": f"{key}-{number}"})
            for number in range(1, self.count + 1)
        ]

    def still_going(self) -> list[str]:
        """What to say after Ctrl-C."""
        if not self.job_ids:
            return ["Stopped."]
        ids = " ".join(self.job_ids[:20])
        more = f" (and {len(self.job_ids) - 20} more)" if len(self.job_ids) > 20 else ""
        return [f"The jobs go on; to watch them again: conveyor watch {ids}{more}"]


async def enqueue_jobs(order: Order) -> int:
    """Accept the jobs, print their ids, watch them with `--wait`."""
    requests = order.requests()
    async with Producer.from_env() as producer:
        try:
            jobs = await producer.enqueue_many(requests, validate=order.validate)
        except InvalidInput as error:
            # All are alike, so each problem is told once, without the place of the job that has it.
            alike = (Problem(problem.field.partition(".")[2], problem.reason) for problem in error.problems)
            raise InvalidInput(list(dict.fromkeys(alike))) from None
        order.job_ids = list(dict.fromkeys(job.id for job in jobs))
        for job in jobs:
            if order.as_json:
                typer.echo(json.dumps({"job_id": job.id, "created": job.created}))
            elif not order.wait:
                typer.echo(job.id)
        if not order.wait:
            return OK
        from producers.cli.progress import display  # noqa: PLC0415 - rich is only needed to watch
        from producers.cli.watch import watch  # noqa: PLC0415

        shown = display(order.job_ids, as_json=order.as_json, final_only=True)
        return await watch(producer, order.job_ids, shown)
