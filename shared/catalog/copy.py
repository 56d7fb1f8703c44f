"""What can be run, as far as we know, and how far is that?"""

from dataclasses import dataclass

from shared.catalog.entries import Entry, Listing
from shared.catalog.index import Index
from shared.jobs.request import JobRequest


@dataclass(frozen=True, slots=True)
class Copy:
    """Our copy of the API's deployments, as it is at the moment of the question."""

    listing: Listing
    index: Index
    #: Since it was read from the API.
    age_seconds: float
    #: Older than it should be, or known to be outdated: the API cannot be reached, or nobody renews it.
    stale: bool
    #: Why it could not be renewed the last time; empty when it could.
    trouble: str = ""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every deployment, newest first."""
        return self.listing.entries

    @property
    def warnings(self) -> list[str]:
        """What a person who relies on it should know, in sentences."""
        said = list(self.listing.warnings)
        for names in self.index.collisions():
            if len(set(names)) == 1:
                said.append(
                    f"{len(names)} workflows are called {names[0]!r}: ask by the deployment's id where that is unclear."
                )
            else:
                alike = " and ".join(repr(name) for name in dict.fromkeys(names))
                said.append(f"{alike} differ only in case, spaces or punctuation: ask by the exact name.")
        if self.stale and self.trouble:
            said.append(f"This copy could not be renewed: {self.trouble}")
        return said

    def find(self, request: JobRequest) -> Entry | None:
        """The deployment a request means; None when there is none. Raises `InvalidInput` when it could mean several."""
        if request.deployment_id:
            return self.index.deployment(request.deployment_id)
        return self.index.find(request.workflow or "", request.environment)

    def named(self, name: str) -> list[Entry]:
        """The deployments a person means, several workflows' when their names sound alike; or the one of this id."""
        return self.index.named(name)

    def did_you_mean(self, name: str) -> str:
        """A question with the names that look like this one; empty when none does."""
        return self.index.did_you_mean(name)

    def unknown(self, name: str, environment: str | None = None) -> str:
        """Why a name stands for nothing, in a sentence, with the names it may have meant."""
        if environment and self.index.named(name):
            return f"The workflow {name!r} has no deployment in {environment}."
        if idle := self.index.idle(name):
            return f"The workflow {idle!r} has no deployment, so it cannot be run."
        return f"There is no workflow {name!r}.{self.index.did_you_mean(name)}"
