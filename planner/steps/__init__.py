"""Steps: the operations around the network, declared in ``steps.json`` beside the model.

Device, cloud and planner read the same file, so a cut may fall between any two of them: sending
the camera's JPEG is the cut before ``decode``, sending 8-bit pixels the cut before ``normalise``.
"""

from planner.steps.binding import Run, Step, Values
from planner.steps.declare import After, Before, Steps, read_steps
from planner.steps.files import Loaded, beside, load
from planner.steps.image import MAX_PIXELS
from planner.steps.made_up import made_up_message
from planner.steps.samples import made_up_image
from planner.steps.wiring import SOURCE, Wired, live_ops, wire

__all__ = [
    "MAX_PIXELS",
    "SOURCE",
    "After",
    "Before",
    "Loaded",
    "Run",
    "Step",
    "Steps",
    "Values",
    "Wired",
    "beside",
    "live_ops",
    "load",
    "made_up_image",
    "made_up_message",
    "read_steps",
    "wire",
]
