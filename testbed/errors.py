"""What the testbed cannot do, each with the reason."""

from protos.errors import IsthmusError


class TestbedError(IsthmusError):
    """Root of the testbed's errors."""

    __test__ = False  # its name begins with Test, and pytest would collect it


class NotInstalled(TestbedError):
    """A program or package that the testbed needs is missing; the message says how to get it."""


class ProcessDied(TestbedError):
    """A process of ours ended, or hung, before it was ready; the message holds its last word."""
