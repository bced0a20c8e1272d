"""Answer on the device when a small model is confident, and send only the rest.

``measure_cascade`` (in :mod:`planner.cascade.measuring`, which needs ONNX Runtime) runs both models
on the data; :func:`choose` finds the threshold and says on other data what it is worth.
"""

from planner.cascade.choosing import NoCascade, Rest, Small, choose
from planner.cascade.document import Cascade, Score
from planner.cascade.points import Measured, Point, points
from planner.cascade.scores import confidence

__all__ = [
    "Cascade",
    "Measured",
    "NoCascade",
    "Point",
    "Rest",
    "Score",
    "Small",
    "choose",
    "confidence",
    "points",
]
