"""Which addresses may a user send us to? Those of the public internet, and no other.

A user who can make us call an address of his choice can otherwise reach what only we can reach: Redis, a cloud's metadata
service, the neighbour's admin page (server-side request forgery).

The lists are IANA's special-purpose registries for IPv4 and IPv6 (as of 2025) and the multicast and reserved blocks;
`ipaddress.is_global` agrees, but not in every patch release we run on. Pure.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

#: What is said of a refused address, and all that is: the asker may be probing our network.
NOT_PUBLIC = "the address is not a public one"


class Refused(OSError):
    """The address is none a user may send us to."""

    def __init__(self) -> None:
        super().__init__(NOT_PUBLIC)


_NOT_PUBLIC_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # behind a carrier's NAT
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's host services, on a public number
            "169.254.0.0/16",  # link-local, with the clouds' metadata services
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)

#: All public IPv6 addresses are in here; unique local, link-local, multicast, IPv4-mapped and -compatible ones are not.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address in disguise
            "3fff::/20",  # documentation
        ),
    )
)
#: What a resolver of an IPv6-only network makes of an IPv4 address, which is its last 32 bits.
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether a numeric address is one of the public internet. False for what is no address at all."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        if found in _NAT64:
            return _is_public_4(IPv4Address(int(found) & 0xFFFF_FFFF))
        return found.scope_id is None and found in _GLOBAL_UNICAST and not any(found in net for net in _NOT_PUBLIC_6)
    return _is_public_4(found)


def _is_public_4(address: IPv4Address) -> bool:
    return not any(address in net for net in _NOT_PUBLIC_4)
