"""A user may send us to the public internet and nowhere else, however the address is spelled."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.outside import is_public

PUBLIC_4 = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255", "198.20.0.1"]

addresses_4 = st.integers(0, 2**32 - 1).map(IPv4Address)
addresses_6 = st.integers(0, 2**128 - 1).map(IPv6Address)
#: Most random IPv6 addresses are nothing at all; these stand close to what is something.
near_6 = st.builds(
    lambda prefix, rest: IPv6Address((prefix << 96) | rest),
    st.sampled_from([0, 0x64FF9B, 0x20010000, 0x20010DB8, 0x20020000, 0x26064700, 0xFC000000, 0xFE800000, 0xFF020000]),
    st.integers(0, 2**96 - 1),
)


@pytest.mark.parametrize("address", [*PUBLIC_4, "2606:4700:4700::1111", "2a00:1450:4001::200e", "64:ff9b::808:808"])
def test_the_public_internet_is_allowed(address: str) -> None:
    """Ordinary addresses, also an IPv4 address as an IPv6-only network sees it."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *["0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1"],
        *["172.31.255.255", "192.168.1.1", "224.0.0.1", "255.255.255.255", "168.63.129.16", "198.18.0.1"],
        *["::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"],
        *["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1"],
        *["2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2606:4700::1%eth0"],
        *["", "localhost", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5", "[::1]"],
    ],
)
def test_everything_else_is_refused(address: str) -> None:
    """Private, loopback, link-local, multicast, reserved, IPv4 dressed up as IPv6, and what is no address."""
    assert not is_public(address)


@given(addresses_4 | addresses_6 | near_6)
@example(ip_address("192.0.0.9"))
def test_what_is_allowed_is_nothing_special(address: IPv4Address | IPv6Address) -> None:
    """No address passes that Python's own registry calls private, local, multicast or reserved."""
    if is_public(str(address)):
        inner = IPv4Address(int(address) & 0xFFFF_FFFF) if str(address).startswith("64:ff9b::") else address
        assert inner.is_global
        assert not any([inner.is_private, inner.is_loopback, inner.is_link_local, inner.is_multicast])
        assert not any([inner.is_unspecified, inner.is_reserved])


@given(addresses_4)
def test_an_address_in_disguise_is_judged_by_what_it_leads_to(address: IPv4Address) -> None:
    """NAT64 is as public as the address inside; mapped, compatible and 6to4 forms are refused whatever is inside."""
    number = int(address)

    assert is_public(str(IPv6Address((0x64FF9B << 96) | number))) == is_public(str(address))
    for disguised in (0xFFFF_0000_0000 | number, number, (0x2002 << 112) | (number << 80)):
        assert not is_public(str(IPv6Address(disguised)))


@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    """Nothing raises; a text that is no address is not public."""
    if is_public(text):
        assert ip_address(text)
