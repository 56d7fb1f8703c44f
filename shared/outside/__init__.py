"""Calls to addresses that users gave us: they may lead nowhere but to the public internet."""

from shared.outside.addresses import NOT_PUBLIC, is_public
from shared.outside.client import FAILURES, open_client, open_transport, why

__all__ = ["FAILURES", "NOT_PUBLIC", "is_public", "open_client", "open_transport", "why"]
