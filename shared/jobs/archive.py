"""What does a job's record tell of the copies of its outputs?"""

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter


class Copy(BaseModel):
    """A copy of one output."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    #: In the job's folder of the archive.
    name: str
    size: int
    #: SHA-256 in hex.
    digest: str
    content_type: str


#: Output key -> its copy, as a record has it.
COPIES = TypeAdapter(dict[str, Copy])


@dataclass(frozen=True, slots=True)
class ArchiveState:
    """How far the archiving of a job is."""

    #: `failed`: some outputs, or all, are not there and will not be.
    state: Literal["pending", "kept", "failed"]
    #: Attempts that were begun.
    attempts: int
    #: Why something is not there (yet); "" when nothing is known.
    last_error: str
    #: When the next attempt is due (ms); None once it is decided.
    next_at: int | None
    #: The job's folder: a path, or `s3://…`; "" as long as nothing has been copied.
    at: str
    #: Output key -> its copy. Texts have none: they are in the record.
    copies: dict[str, Copy]

    @classmethod
    def from_hash(cls, fields: dict[str, str]) -> Self | None:
        """Read a job's hash; None for a job that is not archived."""
        if not fields.get("archive_state"):
            return None
        return cls(
            state=fields["archive_state"],  # type: ignore[arg-type]  # written by our scripts only
            attempts=int(fields.get("archive_attempts") or 0),
            last_error=fields.get("archive_error", ""),
            next_at=int(fields["archive_next_at"]) if fields.get("archive_next_at") else None,
            at=fields.get("archive_at", ""),
            copies=COPIES.validate_json(fields.get("archive_copies") or "{}"),
        )

    def address(self, copy: Copy) -> str:
        """Where a copy is."""
        return f"{self.at}/{copy.name}"

    def snapshot(self) -> dict[str, Any]:
        """As JSON for people and programs; times in seconds."""
        return {
            "state": self.state,
            "attempts": self.attempts,
            "last_error": self.last_error or None,
            "next_at": None if self.next_at is None else self.next_at / 1000,
            "files": {key: self.address(copy) for key, copy in self.copies.items()},
        }
