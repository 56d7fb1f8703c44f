"""Flower's door: an address for strangers needs a password, and other pages in the operator's browser get nothing."""

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from shared.errors import MissingSetting
from workers.monitor.door import check_listening, refuse

HERE = "localhost:5555"


def asked(host: str = HERE, method: str = "GET", **headers: str) -> HTTPServerRequest:
    """A request as a browser or a program makes it."""
    told = {"Host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPServerRequest(start_line=RequestStartLine(method, "/tasks", "HTTP/1.1"), headers=HTTPHeaders(told))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_loopback_is_open(address: str) -> None:
    """As it comes, Flower starts without a password."""
    check_listening(address, [], oauth=False, unix_socket=False)


@pytest.mark.parametrize("address", ["", "0.0.0.0", "192.168.1.5", "flower.example", "127.0.0.1.example"])
def test_any_other_address_needs_a_password(address: str) -> None:
    """Without one it says what to set; with one, with OAuth, or on a Unix socket it starts."""
    with pytest.raises(MissingSetting, match="FLOWER_BASIC_AUTH"):
        check_listening(address, [], oauth=False, unix_socket=False)
    check_listening(address, ["ada:secret"], oauth=False, unix_socket=False)
    check_listening(address, [], oauth=True, unix_socket=False)
    check_listening(address, [], oauth=False, unix_socket=True)


@pytest.mark.parametrize("credential", ["hunter2", "ada:", ":hunter2", ""])
def test_half_a_password_is_none(credential: str) -> None:
    """What is not `name:password` is refused everywhere, and not repeated: it may be the password."""
    with pytest.raises(MissingSetting) as told:
        check_listening("127.0.0.1", ["ada:right", credential], oauth=False, unix_socket=False)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(asked(), id="a program"),
        pytest.param(asked("127.0.0.1:5555"), id="by address"),
        pytest.param(asked("[::1]:5555"), id="by the other address"),
        pytest.param(asked(Sec_Fetch_Site="none", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document"), id="typed"),
        pytest.param(asked(method="POST", Sec_Fetch_Site="same-origin", Origin=f"http://{HERE}"), id="our button"),
        pytest.param(asked(method="POST", Origin=f"http://{HERE}"), id="our button, an old browser"),
        pytest.param(
            asked(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document"),
            id="a link followed",
        ),
    ],
)
def test_operators_come_in(request_: HTTPServerRequest) -> None:
    """Programs on this machine, and a person in a browser."""
    assert refuse(request_, local=True) == ""


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(asked(method="POST", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors"), id="a script's post"),
        pytest.param(
            asked(method="POST", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document"),
            id="a form",
        ),
        pytest.param(asked(Sec_Fetch_Site="same-site", Sec_Fetch_Mode="cors"), id="another port of this machine"),
        pytest.param(
            asked(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe"), id="a frame"
        ),
        pytest.param(asked(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="script"), id="a tag"),
        pytest.param(asked(method="POST", Origin="http://evil.example"), id="an old browser"),
        pytest.param(asked(method="POST", Origin="null"), id="a page without an origin"),
        pytest.param(asked(method="POST", Origin="http://["), id="no origin at all"),
    ],
)
@pytest.mark.parametrize("local", [True, False])
def test_other_pages_get_nothing(request_: HTTPServerRequest, local: bool) -> None:
    """Nor does the operator's own password help them, which the browser would add."""
    assert "other pages" in refuse(request_, local=local)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:5555", "127.0.0.1.evil.example", "", "localhost.evil.example", "[::1"]
)
def test_a_name_that_leads_to_loopback_gets_nothing(host: str) -> None:
    """A page whose name its owner has made to lead here is our origin to the browser; a password would stop it instead."""
    assert "localhost only" in refuse(asked(host, Sec_Fetch_Site="same-origin"), local=True)
    assert refuse(asked(host, Sec_Fetch_Site="same-origin"), local=False) == ""
