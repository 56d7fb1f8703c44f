"""Every way to write the API's address leads to the same routes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.comfydeploy import ComfyDeploy, api_root
from shared.errors import MissingSetting

hosts = st.from_regex(r"[a-z][a-z0-9-]{0,10}(\.[a-z]{2,5}){0,2}(:[1-9][0-9]{0,3})?", fullmatch=True)
prefixes = st.lists(st.from_regex(r"[a-z0-9_-]{1,8}", fullmatch=True).filter(lambda s: s != "api"), max_size=3)


ends = st.from_regex(r"(/api)?/{0,3} ?", fullmatch=True)


@given(st.sampled_from(["http", "https"]), hosts, prefixes, ends)
def test_api_and_slash_are_optional(scheme, host, prefix, end):
    """With or without `/api`, with any number of slashes at the end: one and the same root, and a fixed point."""
    bare = "/".join([f"{scheme}://{host}", *prefix])
    assert api_root(bare + end) == f"{bare}/api"
    assert api_root(api_root(bare + end)) == api_root(bare + end)


@given(st.text() | st.builds("{}{}".format, st.sampled_from(["http://", "https://h/"]), st.text()))
def test_any_text_is_an_address_or_a_missing_setting(text):
    """Nothing an operator can type raises anything but the error that says what to fix, and no root needs fixing."""
    try:
        root = api_root(text)
    except MissingSetting:
        return
    assert root.endswith("/api")
    assert api_root(root) == root


@pytest.mark.parametrize(
    "text",
    ["", "api.comfydeploy.com", "ftp://host/api", "https://", "https://user:pass@host/api", "https://host/api?cd_token=k",
     "https://host/api#x", "https://host:99999/api", "https://ho st/api", "https://[::1/api"],
)  # fmt: skip
def test_what_cannot_be_the_api_is_refused(text):
    """Another scheme, no host, or a place where a secret could hide is refused at start, not at the first call."""
    with pytest.raises(MissingSetting) as caught:
        api_root(text)
    assert "COMFY_DEPLOY_API_URL" in str(caught.value)
    assert "pass" not in str(caught.value)
    assert "cd_token" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "   ", "two words", "line\nbreak", "schlüssel", "nul\x00"])
def test_a_key_that_cannot_be_a_header_is_refused_without_being_shown(key):
    """The libraries below would repeat such a key in their messages, so it never gets there."""
    with pytest.raises(MissingSetting) as caught:
        ComfyDeploy("http://127.0.0.1", key)
    assert "COMFY_DEPLOY_API_KEY" in str(caught.value)
    assert not key.strip() or key not in str(caught.value)
