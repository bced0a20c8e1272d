"""The root of every error that a user of Isthmus may meet."""


class IsthmusError(Exception):
    """One sentence that says what is wrong and what to do; ``exit_code`` is the command's answer.

    Each room has one root below this and a few leaves that a caller would handle differently.
    The command prints ``str(error)`` on one line and exits with ``exit_code``.
    """

    exit_code = 2


class WireError(IsthmusError):
    """A message, tensor or topic that is not well formed; it travels no further."""
