"""Examples are drawn at random on a laptop and, as hypothesis knows it runs there, always the same in CI."""

from hypothesis import settings

#: A busy machine is no reason to fail: what is slow is measured in `bench/`.
settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")
