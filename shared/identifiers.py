"""Which job is it? UUIDv7: sorts by age, 36 characters, fits Telegram's 64-byte callback data."""

import os
import time
import uuid


def new_job_id() -> str:
    """Make a UUIDv7 (RFC 9562 section 5.7): 48 bits of Unix milliseconds, then randomness."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return str(uuid.UUID(int=value))
