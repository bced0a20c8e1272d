"""What the planner cannot do, each with the reason."""

from protos.errors import IsthmusError


class PlannerError(IsthmusError):
    """Root of the planner's errors."""


class ModelError(PlannerError):
    """The file is no ONNX model that can be read, checked and run."""


class StepsError(PlannerError):
    """The steps file does not fit its schema or the model it stands beside."""


class CutError(PlannerError):
    """The named boundary tensors do not part the model in two."""


class InputError(PlannerError):
    """An input of a piece is missing, unknown, of the wrong type or shape, or no such message."""


class LinkError(PlannerError):
    """A link that has no name we know and is not of the form ``5.85Mbps,50ms``."""


class NoFeasiblePlan(PlannerError):
    """No cut meets the limits; the message names the limit that leaves none."""

    exit_code = 1


class VerificationFailed(PlannerError):
    """Head and tail together do not equal the model."""

    exit_code = 1
