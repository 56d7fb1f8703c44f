"""Every error of Conveyor, sorted by what the caller should do about it.

    ConveyorError
    ├── TryLater               nothing is wrong with the request; wait `retry_after_seconds`
    │   ├── RateLimited        the API pushed back (429, or 503 with Retry-After)
    │   ├── Unavailable        the API or Redis cannot be reached, or answers 5xx
    │   ├── TooManyJobs        this user has as many open jobs as one user may have
    │   └── Stopping           this process is going away; give the work to another
    ├── GiveUp                 repeating cannot help; `user_message` fits a chat window
    │   ├── InvalidInput       refused at the door: every problem at once, by field
    │   ├── WorkflowNotFound   no workflow or deployment of that name or id
    │   ├── RunNotFound        the API does not know the run, or not for this key
    │   ├── NotFound           the API has no such machine, version, share or file, or not for this key
    │   ├── InUse              something still needs what was to be deleted
    │   ├── FileUnusable       a file is not there (any more), too large, or not what it should be
    │   ├── InsufficientCredit the account behind the API key has no credit left
    │   ├── JobNotFound        no job of that id, or no longer kept
    │   └── JobFailed          the job ended in something other than success
    ├── TellOperator           a person with access must act; `check` says on what
    │   ├── MissingSetting     an environment variable is missing or wrong
    │   ├── UnsafeRedis        this Redis may throw our data away
    │   ├── Unauthorized       the API refuses the key
    │   └── UnexpectedAnswer   the API answered something its contract does not contain
    └── Undecided              a submit (or a creation) whose answer was lost: it may exist, and a run is paid for

Signals that are not errors (look again; already final) are return values, not exceptions.
"""

from dataclasses import dataclass


class ConveyorError(Exception):
    """The root: catch it to catch everything Conveyor raises on purpose."""

    #: The word that stands for this error in events (`error.code`).
    code = "internal"


class TryLater(ConveyorError):
    """Nothing is wrong with the request; wait and repeat it."""

    code = "upstream_unavailable"

    def __init__(
        self, message: str, *, retry_after_seconds: float | None = None, upstream_status: int | None = None
    ) -> None:
        super().__init__(message)
        #: How long the other side asked us to wait; None when it did not say.
        self.retry_after_seconds = retry_after_seconds
        #: The HTTP status, when the API answered at all.
        self.upstream_status = upstream_status


class RateLimited(TryLater):
    """The API pushed back: close the bucket for everyone until it may be asked again."""

    code = "rate_limited"


class Unavailable(TryLater):
    """The API or Redis could not be reached or is in trouble; the request was certainly not carried out
    or is safe to repeat."""


class TooManyJobs(TryLater):
    """This user has as many open jobs as one user may have; nothing was written. When one has ended, ask again."""

    code = "rate_limited"
    user_message = "You have too many pictures under way. Try again when one is ready."


class Stopping(TryLater):
    """This process has been told to stop and hands its work back."""


class GiveUp(ConveyorError):
    """Repeating cannot help; tell the user."""

    user_message = "This request could not be carried out."

    def __init__(self, message: str, *, user_message: str | None = None, upstream_status: int | None = None) -> None:
        super().__init__(message)
        if user_message is not None:
            self.user_message = user_message
        #: The HTTP status the API gave, when it was the API that refused.
        self.upstream_status = upstream_status


@dataclass(frozen=True)
class Problem:
    """One reason why an input was refused."""

    #: Where, as a dotted path into the request: `inputs.seed`, `user.id`.
    field: str
    #: Why, as a sentence that does not repeat a secret value.
    reason: str


class InvalidInput(GiveUp):
    """Refused at the door. Carries every problem, not only the first; nothing was written."""

    code = "invalid_input"
    user_message = "Something in this request is not valid."

    def __init__(self, problems: list[Problem], *, upstream_status: int | None = None) -> None:
        lines = "; ".join(f"{p.field}: {p.reason}" for p in problems)
        super().__init__(lines, user_message=f"{self.user_message} {lines}"[:500], upstream_status=upstream_status)
        self.problems = problems

    def at(self, place: int) -> list[Problem]:
        """The problems of one request among several: fields begin with its place (`2.inputs.seed`)."""
        return [Problem(f"{place}.{problem.field}", problem.reason) for problem in self.problems]


class WorkflowNotFound(GiveUp):
    """No workflow or deployment of that name or id is visible to our key."""

    code = "workflow_not_found"
    user_message = "That workflow does not exist (any more)."


class RunNotFound(GiveUp):
    """The API does not know the run, or not for this key."""

    code = "upstream_failed"


class NotFound(GiveUp):
    """The API has no such machine, workflow version, share or file, or not for this key."""


class InUse(GiveUp):
    """Something still needs what was to be deleted; the message says what. A person may insist."""


class FileUnusable(GiveUp):
    """A file is not there (any more), too large, not what it should be, or may not be written where it was to go."""

    code = "upstream_failed"
    user_message = "A file could not be read or written."


class InsufficientCredit(GiveUp):
    """The account behind the API key has no GPU credit left."""

    code = "insufficient_credit"
    user_message = "The image service has no credit left. The operators have to top it up."


class JobNotFound(GiveUp):
    """No job of that id, or it ended longer ago than jobs are kept."""

    code = "internal"


class JobFailed(GiveUp):
    """The job ended in something other than success; `str()` is its error code and message.

    Also what `celery.result.AsyncResult(job_id).get()` raises, so it must rebuild from its positional arguments alone.
    """

    code = "upstream_failed"

    def __init__(self, message: str) -> None:
        super().__init__(message)


class TellOperator(ConveyorError):
    """A person with access must act; the job itself may be fine."""

    def __init__(self, message: str, *, check: str, upstream_status: int | None = None) -> None:
        super().__init__(f"{message} Check: {check}")
        #: What to look at, in one line.
        self.check = check
        self.upstream_status = upstream_status


class MissingSetting(TellOperator):
    """An environment variable is missing or wrong; the message names it."""


class UnsafeRedis(TellOperator):
    """This Redis may throw our data away, and with it jobs that somebody paid for."""


class Unauthorized(TellOperator):
    """The API refuses our key, or the key may not do this."""

    code = "unauthorized"


class UnexpectedAnswer(TellOperator):
    """The API answered something its contract does not contain."""


class Undecided(ConveyorError):
    """A submit whose answer was lost: look the run up before anything else, never POST again blindly.

    CONTRACT section 4: the row is committed before the answer, there is no idempotency key, and every run is paid for.
    Creating a workflow, a version or a machine can end like this, too: list them before creating again.
    """

    code = "upstream_unavailable"

    def __init__(
        self, message: str, *, retry_after_seconds: float | None = None, upstream_status: int | None = None
    ) -> None:
        super().__init__(message)
        #: How long the other side asked us to wait (a 503 with Retry-After); None when it did not say.
        self.retry_after_seconds = retry_after_seconds
        #: The HTTP status, when there was an answer at all.
        self.upstream_status = upstream_status
