"""A plan as one self-contained HTML page."""

from datetime import UTC, datetime
from pathlib import Path

from planner.model import Model
from planner.plans import PlanDocument
from planner.profiles import Profile
from planner.report.page import render

__all__ = ["render", "write_report"]


def write_report(
    path: Path, document: PlanDocument, model: Model, device: Profile, cloud: Profile
) -> None:
    """Write the page, dated today.

    Raises:
        OSError: the file cannot be written.
    """
    today = datetime.now(UTC).astimezone().date()
    path.write_text(render(document, model, device, cloud, made=today), encoding="utf-8")
