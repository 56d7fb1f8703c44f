"""Which deployment does a name or an id stand for? Pure; made once for each copy.

A name as it is written wins over one that only sounds like it. What sounds like two names is refused with both: a guess
would run, and bill, somebody else's workflow. Among one workflow's deployments production comes first.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from shared.catalog.entries import Entry
from shared.errors import InvalidInput, Problem
from shared.names import did_you_mean, tolerant

#: When a name stands for several deployments, the first of these wins.
ENVIRONMENTS = ("production", "staging", "preview", "private-share", "public-share", "community-share")
_RANKS = {environment: place for place, environment in enumerate(ENVIRONMENTS)}

#: So many candidates are named.
MOST_NAMED = 5


class Index:
    """The deployments of one copy, by id, name and tolerant name."""

    def __init__(self, entries: Iterable[Entry], workflows: Mapping[str, str]) -> None:
        self._by_deployment: dict[str, Entry] = {}
        self._by_workflow: defaultdict[str, list[Entry]] = defaultdict(list)
        self._exact: defaultdict[str, list[Entry]] = defaultdict(list)
        self._tolerant: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            self._by_deployment[entry.deployment_id] = entry
            self._by_workflow[entry.workflow_id].append(entry)
            self._exact[entry.name].append(entry)
            self._tolerant[tolerant(entry.name)].append(entry)
        #: Names of workflows that have no deployment, by tolerant name.
        self._idle = {tolerant(name): name for key, name in workflows.items() if key not in self._by_workflow}

    def deployment(self, deployment_id: str) -> Entry | None:
        """The deployment of an id."""
        return self._by_deployment.get(deployment_id)

    def find(self, name: str, environment: str | None = None) -> Entry | None:
        """The deployment a name means, production first; None when there is none. `name` may also be an id of either kind.

        Raises `InvalidInput` with the candidates when it could mean several workflows.
        """
        found = [entry for entry in self.named(name) if environment in (None, entry.environment)]
        if len({entry.name for entry in found}) > 1:
            raise _ambiguous(name, sorted({repr(entry.name) for entry in found}))
        best = min((_rank(entry) for entry in found), default=0)
        found = [entry for entry in found if _rank(entry) == best]
        if len({entry.workflow_id for entry in found}) > 1:
            raise _ambiguous(name, [f"deployment {entry.deployment_id} ({entry.environment})" for entry in found])
        return found[0] if found else None

    def named(self, name: str) -> list[Entry]:
        """Every deployment a person may mean: of the name as written, else of names that sound like it, else of the id."""
        if (one := self._by_deployment.get(name)) is not None:
            return [one]
        for table, word in ((self._exact, name), (self._tolerant, tolerant(name)), (self._by_workflow, name)):
            if found := table.get(word):
                return list(found)
        return []

    def idle(self, name: str) -> str | None:
        """The workflow of about this name that has no deployment, and so cannot be run."""
        return self._idle.get(tolerant(name))

    def did_you_mean(self, name: str) -> str:
        """A question with the names that look like this one; empty when none does."""
        return did_you_mean(name, self._exact)

    def collisions(self) -> list[tuple[str, ...]]:
        """Names that sound alike, each group sorted; two workflows of one name are that name twice."""
        groups = (sorted(dict.fromkeys((e.name, e.workflow_id) for e in found)) for found in self._tolerant.values())
        return sorted(tuple(name for name, _ in group) for group in groups if len(group) > 1)


def _rank(entry: Entry) -> int:
    return _RANKS.get(entry.environment, len(_RANKS))


def _ambiguous(name: str, candidates: list[str]) -> InvalidInput:
    shown = " or ".join(candidates[:MOST_NAMED]) + (" or others" if len(candidates) > MOST_NAMED else "")
    return InvalidInput([Problem("workflow", f"{name!r} can mean {shown}: write it so, or give the deployment's id.")])
