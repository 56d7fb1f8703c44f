"""Which deployment does a name mean? Held against a slow and simple reading of the rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog.entries import Entry, Listing
from shared.catalog.index import ENVIRONMENTS, Index
from shared.errors import InvalidInput
from shared.names import tolerant

NAMES = ("portrait", "Portrait", "por-trait", "landscape", "🎨", "🖼", "!!!", "肖像")
ASKED = (*NAMES, "PORTRAIT", "Land Scape", " 肖像 ", "portraits", "w1", "d1", "…")


def entry(number: int, name: str, workflow: int, environment: str) -> Entry:
    return Entry(f"d{number}", f"w{workflow}", name, environment, pool="m")


@st.composite
def listings(draw: st.DrawFn) -> list[Entry]:
    """Deployments of a few workflows; each has one name."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6))
    where = st.tuples(st.integers(0, len(names) - 1), st.sampled_from((*ENVIRONMENTS[:3], "new")))
    return [
        entry(number, names[workflow], workflow, environment)
        for number, (workflow, environment) in enumerate(draw(st.lists(where, max_size=8)))
    ]


def meant(entries: list[Entry], name: str) -> list[Entry]:
    """The deployments a name may mean, read slowly."""
    by_id = [one for one in entries if one.deployment_id == name]
    exact = [one for one in entries if one.name == name]
    alike = [one for one in entries if tolerant(one.name) == tolerant(name)]
    return by_id or exact or alike or [one for one in entries if one.workflow_id == name]


@given(listings(), st.sampled_from(ASKED), st.sampled_from((None, *ENVIRONMENTS[:3])))
def test_a_name_means_one_or_is_refused(entries: list[Entry], name: str, environment: str | None) -> None:
    """An exact name wins; production wins; the newest wins; two workflows that may be meant are refused."""
    index = Index(entries, {})
    found = [one for one in meant(entries, name) if environment in (None, one.environment)]
    ranks = [ENVIRONMENTS.index(one.environment) if one.environment in ENVIRONMENTS else 99 for one in found]
    best = [one for one, rank in zip(found, ranks, strict=True) if rank == min(ranks)]
    if len({one.name for one in found}) > 1 or len({one.workflow_id for one in best}) > 1:
        with pytest.raises(InvalidInput) as refusal:
            index.find(name, environment)
        assert [problem.field for problem in refusal.value.problems] == ["workflow"]
    else:
        assert index.find(name, environment) == (best[0] if best else None)


@given(listings())
def test_every_deployment_is_found(entries: list[Entry]) -> None:
    """By its id always; by its name at least among those that may be meant: no name vanishes behind another."""
    index = Index(entries, {})
    for one in entries:
        assert index.deployment(one.deployment_id) == one
        assert index.find(one.deployment_id) == one
        assert one in index.named(one.name)


@given(listings())
def test_collisions_are_the_names_that_are_refused(entries: list[Entry]) -> None:
    """Who is not told of a collision can ask for every name as carelessly as he likes."""
    index = Index(entries, {})
    collided = {name for names in index.collisions() for name in names}
    for one in entries:
        if one.name not in collided:
            assert index.find(f" {one.name.upper()} ") is not None
    for names in index.collisions():
        assert len({tolerant(name) for name in names}) == 1
        assert len(names) > 1


def test_candidates_are_named() -> None:
    """Names when these differ, deployments when they do not; how to say it right."""
    entries = [entry(1, "SDXL Portrait", 1, "production"), entry(2, "sdxl-portrait", 2, "staging")]
    with pytest.raises(InvalidInput, match="can mean 'SDXL Portrait' or 'sdxl-portrait': write it so"):
        Index(entries, {}).find("sdxl portrait")
    twice = [entry(1, "portrait", 1, "production"), entry(2, "portrait", 2, "production")]
    with pytest.raises(InvalidInput, match=r"deployment d1 \(production\) or deployment d2"):
        Index(twice, {}).find("portrait")


def test_a_workflow_without_deployments_is_known() -> None:
    """It exists, but cannot be run: that is told, and not that there is none."""
    index = Index([entry(1, "portrait", 1, "production")], {"w1": "portrait", "w2": "Land-scape"})
    assert (index.idle("landscape"), index.idle("portrait"), index.find("landscape")) == ("Land-scape", None, None)


@given(listings())
def test_a_listing_is_read_as_it_was_stored(entries: list[Entry]) -> None:
    """Also by a process that knows fewer fields, or that is told fewer."""
    listing = Listing(tuple(entries), {"w": "portrait"}, ("a warning",))
    stored = listing.stored()
    assert Listing.of(stored) == listing
    for one in stored["entries"]:
        one["of_tomorrow"] = 1
        del one["kept_from"]
    assert Listing.of({"entries": stored["entries"]}).entries == listing.entries
