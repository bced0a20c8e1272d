"""Settings of the property tests: other work may share the machine, so none has a deadline."""

from hypothesis import settings

settings.register_profile("testbed", deadline=None, max_examples=100)
settings.load_profile("testbed")
