"""How busy the cloud is: what waits there add to a plan that uses it."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from planner.errors import PlannerError
from protos.documents import DocumentError, read_json

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a gateway reports of one function.

    ``queue_s`` is the mean wait for an instance; ``cold_chance`` the share of requests that had to
    wait for a start, and ``cold_s`` how long such a start took.
    """

    schema: Literal["isthmus.load/1"] = "isthmus.load/1"
    queue_s: Seconds = 0.0
    cold_chance: Share = 0.0
    cold_s: Seconds = 0.0

    @property
    def wait_s(self) -> float:
        """The expected wait of a request."""
        return self.queue_s + self.cold_chance * self.cold_s


def read_load(path: Path) -> Load:
    """Read what a gateway reported.

    Raises:
        PlannerError: unreadable, or a field is missing, unknown or out of range.
    """
    try:
        return read_json(path, Load, what="load")
    except DocumentError as error:
        raise PlannerError(str(error)) from error
