"""Which knobs does Conveyor have, and what are they set to?

The environment is read once, at process start, into a frozen `Settings` that is passed on. A variable that starts
with `CONVEYOR_` and is not listed here is refused: it is a typo, and a typo in a limit costs money.
`.env.example` is this file for operators; a test keeps the two equal.
"""

import hashlib
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from shared.archive.shelf import bucket_and_prefix
from shared.errors import MissingSetting
from shared.secret_files import with_secret_files

PREFIX = "CONVEYOR_"


def _comma_list(value: Any) -> Any:
    """Parts between commas; in a file, one a line reads better."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.replace("\n", ",").split(",") if part.strip()]


def _with_password(url: str, password: str) -> str:
    """The address with the password in it. Raises `MissingSetting` when it has one already."""
    parts = urlsplit(url)
    account, _, host = parts.netloc.rpartition("@")
    if ":" in account:
        raise MissingSetting("REDIS_PASSWORD is set and REDIS_URL has a password, too.", check="set it once.")
    return urlunsplit(parts._replace(netloc=f"{account}:{quote(password, safe='')}@{host}"))


def _comma_pairs(value: Any) -> Any:
    return dict(part.partition("=")[::2] for part in _comma_list(value)) if isinstance(value, str) else value


def _archive_address(value: str) -> str:
    """A folder that is the same for every process, or a bucket; without credentials, since addresses are shown."""
    if value and not (value.startswith(("/", "~/")) or bucket_and_prefix(value)):
        raise ValueError("a folder as a whole path, or s3://bucket/prefix without user names, blanks and queries")
    return value


class Settings(BaseModel):
    """Every setting, named in the environment by its alias."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    api_key: SecretStr | None = Field(None, alias="COMFY_DEPLOY_API_KEY")
    """The ComfyUI Deploy API key. Workers need it; a producer may do without."""
    api_url: str = Field("https://api.comfydeploy.com/api", alias="COMFY_DEPLOY_API_URL")
    """Base URL of the API, with or without `/api`, with or without a slash at the end."""
    redis_url: str = Field("redis://localhost:6379/0", alias="REDIS_URL", repr=False)
    """The one Redis: jobs, lanes, budget, streams, and Celery's broker and results."""
    redis_password: SecretStr | None = Field(None, alias="REDIS_PASSWORD")
    """The password of Redis, when it is not in `REDIS_URL`."""

    rate_per_second: float = Field(10.0, alias="CONVEYOR_RATE_PER_SECOND", gt=0, le=10_000)
    """API calls per second, all workers together."""
    rate_burst: int = Field(20, alias="CONVEYOR_RATE_BURST", ge=10, le=100_000)
    """API calls that may come at once after a quiet time."""

    window: int = Field(200, alias="CONVEYOR_WINDOW", ge=1)
    """Jobs past the lanes at once, of everybody."""
    user_window: int = Field(20, alias="CONVEYOR_USER_WINDOW", ge=1)
    """Jobs past the lanes at once, of one user."""
    tier_weights: Annotated[dict[str, Annotated[int, Field(ge=1, le=10)]], BeforeValidator(_comma_pairs)] = Field(
        {}, alias="CONVEYOR_TIER_WEIGHTS"
    )
    """How many turns a user of a tier (`user.tier`) gets where others get one, `plus=2,pro=4`; 1 to 10."""
    machine_window_factor: float = Field(2.0, alias="CONVEYOR_MACHINE_WINDOW_FACTOR", gt=0)
    """Jobs past the lanes at once on one machine, as a multiple of the machine's own concurrency limit."""

    slots: int = Field(8, alias="CONVEYOR_SLOTS", ge=1, le=1_000)
    """Submits one worker process carries out at once. A slot is held from the token to the answer, never by a run."""

    public_url: str = Field("", alias="CONVEYOR_PUBLIC_URL")
    """Where the gateway can be reached from outside; empty means no webhooks are asked for."""
    secret: SecretStr | None = Field(None, alias="CONVEYOR_SECRET")
    """Signs the webhook addresses. Needed as soon as `CONVEYOR_PUBLIC_URL` is set."""
    sse: bool = Field(default=False, alias="CONVEYOR_SSE")
    """Listen to the API's progress streams for hints; for where webhooks cannot reach us."""
    api_keys: Annotated[list[SecretStr], BeforeValidator(_comma_list)] = Field([], alias="CONVEYOR_API_KEYS")
    """Keys of the HTTP gateway, `name:key,name:key`. Read by the gateway only."""

    callback_allow_private: bool = Field(False, alias="CONVEYOR_CALLBACK_ALLOW_PRIVATE")
    """1 lets callbacks go to private and loopback addresses, too. Only where everybody who may ask is trusted."""
    port: int = Field(8000, alias="PORT", ge=1, le=65_535)
    """Where the HTTP gateway listens."""
    host: str = Field("", alias="CONVEYOR_HOST")
    """On which address the gateway listens; empty is every address with `CONVEYOR_API_KEYS`, loopback without."""
    cors_origins: Annotated[list[str], BeforeValidator(_comma_list)] = Field([], alias="CONVEYOR_CORS_ORIGINS")
    """Web pages of other origins that may call the gateway, `https://one.example,https://two.example`."""
    requests_per_minute: int = Field(3000, alias="CONVEYOR_REQUESTS_PER_MINUTE", ge=1, le=1_000_000)
    """Requests one API key may make of one gateway process."""
    user_jobs: int = Field(200, alias="CONVEYOR_USER_JOBS", ge=0)
    """Jobs one user may have open through the gateway at once; 0 is no limit."""
    upload_bytes: int = Field(50_000_000, alias="CONVEYOR_UPLOAD_BYTES", ge=1, le=250_000_000)
    """Size of one file the gateway takes."""

    cache_folder: str = Field("", alias="CONVEYOR_CACHE_FOLDER")
    """Where files of outputs are kept on disk; empty is `conveyor` in the account's own folder for caches."""
    cache_bytes: int = Field(2_000_000_000, alias="CONVEYOR_CACHE_BYTES", ge=0)
    """How much is kept there; what was used longest ago goes first. 0 keeps nothing."""

    archive: Annotated[str, AfterValidator(_archive_address)] = Field("", alias="CONVEYOR_ARCHIVE")
    """Where outputs are copied to, a folder or `s3://bucket/prefix`, so that they outlive the API's addresses."""

    job_keep_seconds: int = Field(86_400, alias="CONVEYOR_JOB_KEEP_SECONDS", ge=60)
    """How long a job can be asked about after its final state."""
    dead_keep_seconds: int = Field(30 * 86_400, alias="CONVEYOR_DEAD_KEEP_SECONDS", ge=3600)
    """How long a dead letter waits for somebody to replay it."""
    log_format: Literal["auto", "pretty", "json"] = Field("auto", alias="CONVEYOR_LOG_FORMAT")
    """`auto` is pretty on a terminal and JSON elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="CONVEYOR_LOG_LEVEL")
    """What is not worth a line. Celery's `--loglevel` has no say."""
    metrics_port: int = Field(0, alias="CONVEYOR_METRICS_PORT", ge=0, le=65_535)
    """Where a worker serves its metrics for Prometheus; 0 means nowhere."""
    metrics_address: str = Field("127.0.0.1", alias="CONVEYOR_METRICS_ADDRESS")
    """The address a worker serves its metrics on; in a container `0.0.0.0`, since Prometheus is in another one."""
    flower_port: int = Field(5555, alias="FLOWER_PORT", ge=1, le=65_535)
    """Where Flower listens, on loopback unless `FLOWER_ADDRESS` says otherwise."""
    flower_history: int = Field(5000, alias="CONVEYOR_FLOWER_HISTORY", ge=1, le=100_000)
    """Jobs that Flower lists: whatever has not ended, and the newest of the others that Redis still keeps."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment once.

        An empty variable counts as not set, so that a line `NAME=` in an env file means the default.
        A secret may come from a file instead: `<name>_FILE` says which (`shared/secret_files.py`).
        Raises `MissingSetting` that names every wrong or unknown variable, never a value.
        """
        names = cls.names()
        environ = with_secret_files(os.environ if environ is None else environ, cls.secrets())
        unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in names)
        if unknown:
            raise MissingSetting(
                f"Unknown setting {', '.join(unknown)}.", check="the spelling; `.env.example` lists every setting."
            )
        told = {name: environ[name] for name in names if environ.get(name)}
        if password := told.get("REDIS_PASSWORD"):
            told["REDIS_URL"] = _with_password(told.get("REDIS_URL", cls.model_fields["redis_url"].default), password)
        try:
            return cls.model_validate(told)
        except ValidationError as error:
            wrong = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
            raise MissingSetting(f"Wrong setting {wrong}.", check="`.env.example` for what is allowed.") from None

    @classmethod
    def names(cls) -> frozenset[str]:
        """The environment variables we read."""
        return frozenset(field.alias for field in cls.model_fields.values() if field.alias)

    @classmethod
    def secrets(cls) -> frozenset[str]:
        """Those of them that hold a secret, each of which may come from a file."""
        fields = cls.model_fields.values()
        return frozenset(
            field.alias
            for field in fields
            if field.alias and (field.alias == "REDIS_URL" or "SecretStr" in str(field.annotation))
        )

    def require_api_key(self) -> str:
        """The API key, or `MissingSetting` that says where to get one."""
        if self.api_key is None:
            raise MissingSetting(
                "COMFY_DEPLOY_API_KEY is not set.",
                check="make a key in the ComfyUI Deploy dashboard, or run `make demo` for the simulator.",
            )
        return self.api_key.get_secret_value()

    def require_secret(self) -> str:
        """The secret that signs webhook addresses, or `MissingSetting`."""
        if self.secret is None:
            raise MissingSetting(
                "CONVEYOR_SECRET is not set but CONVEYOR_PUBLIC_URL is.", check="set it to a long random text."
            )
        return self.secret.get_secret_value()

    @property
    def account(self) -> str:
        """A short name for the API account that gives nothing away: the budget and the catalog belong to it."""
        key = self.api_key.get_secret_value() if self.api_key else ""
        return hashlib.sha256(f"{self.api_url}\0{key}".encode()).hexdigest()[:12]
