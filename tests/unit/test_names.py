"""Names, tolerantly: what is dropped, what is kept, and that it is settled after once."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.names import tolerant

#: Letters that differ from each other by more than case, of several scripts.
LETTERS = "abcxyz0189åéñäжщяθωאבकखगतन日本語가나"
BLANKS = " \t\u00a0\u2009-_.,!?()'/:·、。‐–\u200b"  # noqa: RUF001 - such are in people's names


@given(st.text())
def test_a_second_time_changes_nothing(name: str) -> None:
    """What is tolerant is its own tolerant name."""
    assert tolerant(tolerant(name)) == tolerant(name)


@given(st.text())
def test_the_encoding_of_a_letter_does_not_matter(name: str) -> None:
    """Composed or decomposed, as a Mac or a phone writes it."""
    assert tolerant(unicodedata.normalize("NFD", name)) == tolerant(unicodedata.normalize("NFC", name))


@given(st.lists(st.sampled_from(LETTERS), min_size=1), st.data())
def test_case_spaces_and_punctuation_do_not_matter(letters: list[str], data: st.DataObject) -> None:
    """Wherever they are put."""
    plain = "".join(letters)
    parts = [part for letter in letters for part in (data.draw(st.text(BLANKS, max_size=2)), letter)]
    assert tolerant("".join(parts)) == tolerant(plain.upper()) == plain


@given(st.text(LETTERS, min_size=1), st.text(LETTERS, min_size=1))
def test_other_letters_are_another_name(one: str, other: str) -> None:
    """Nothing but case, spaces and punctuation is thrown away."""
    assert (tolerant(one) == tolerant(other)) == (one == other)


@given(st.text(min_size=1))
def test_what_can_be_seen_is_a_name(name: str) -> None:
    """Only blanks and what cannot be seen leave nothing; emoji and punctuation are names."""
    visible = any(unicodedata.category(character)[0] in "LNPS" for character in name)
    assert bool(tolerant(name)) >= visible


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("SDXL  Portrait!", "sdxl-portrait", True),
        ("Cafe\u0301", "CAFÉ", True),
        ("Café", "Cafe", False),
        ("ﬁlm", "Film", True),
        ("Ｆｌｕｘ １", "flux 1", True),  # noqa: RUF001
        ("Straße", "STRASSE", True),
        ("कि", "की", False),
        ("☺️", "☺", True),
        ("🎨", "🎨🎨", False),
        ("🎨", "🖼", False),
        ("!!!", "???", False),
        ("Portrait 🎨", "portrait", True),
    ],
)
def test_examples(one: str, other: str, same: bool) -> None:
    """Of several scripts, and of none."""
    assert (tolerant(one) == tolerant(other)) == same
    assert tolerant(one)
