"""Settings that the conformance tests share."""

from hypothesis import settings

settings.register_profile("cyclr", deadline=None, max_examples=60)
settings.load_profile("cyclr")
