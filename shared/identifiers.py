"""Which job is it? UUIDv7: sorts by age, 36 characters, fits Telegram's 64-byte callback data.

The twelve bits after the milliseconds are the fraction of the millisecond (RFC 9562 section 6.2, method 3), so ids made
one after the other by one process sort in that order: jobs accepted in the same millisecond keep their order in a lane.
"""

import os
import time
import uuid


def new_job_id() -> str:
    """Make a UUIDv7 (RFC 9562 section 5.7): 48 bits of Unix milliseconds, 12 of their fraction, then randomness."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8), "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | fraction << 64 | random
    value = value & ~(0xF << 76) | 0x7 << 76  # version
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    return str(uuid.UUID(int=value))
