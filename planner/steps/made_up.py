"""A made-up message of a sensor's for a model's steps."""

from collections.abc import Mapping

from planner.steps.binding import Decoder, Run
from planner.steps.tabular import DecodeRow, OneHot


def made_up_message(runs: Mapping[str, Run]) -> bytes:
    """A plausible message of the sensor's for a model's steps (:attr:`planner.Model.steps`).

    A photograph, a sound, a sentence, a row or an array, as the first step that reads one wants it.

    Raises:
        ValueError: no step reads a message.
    """
    steps = [run.step for run in runs.values()]
    for step in steps:
        if isinstance(step, DecodeRow):
            return step.message({s.column: s.values[0] for s in steps if isinstance(s, OneHot)})
        if isinstance(step, Decoder):
            return step.made_up()
    raise ValueError("no step reads the sensor's message")
