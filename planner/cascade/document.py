"""A cascade as a value, as it stands in a plan."""

from typing import Annotated, Literal

import msgspec

Score = Literal["softmax", "margin", "score"]
"""How sure a model is: its best probability; its best less its second; the score of ``top_k``."""

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Cascade(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The device answers with the small model where it is sure, and follows ``plan`` elsewhere.

    ``small`` and ``digest`` name the small model; they are the large one's own where an early
    output of it answers. Where ``score`` of the tensor ``answer``
    (:func:`planner.cascade.confidence`) is at least ``threshold``, its answer stands.

    ``threshold`` was chosen on one half of the samples. All the figures are of the other half,
    ``samples`` many: the share that is answered on the device, the expected seconds and bytes of a
    request, ``accuracy`` (the share of right answers, or without labels of those that are the large
    model's own), and ``drop``, how far that is below the large model alone, with its upper bound
    at 95 % confidence. ``small_s`` is the small model's time on the device.
    """

    small: str
    digest: str
    answer: str
    score: Score
    threshold: float
    share_on_device: Share
    expected_latency_s: Seconds
    expected_upload_bytes: Annotated[float, msgspec.Meta(ge=0)]
    metric: Literal["accuracy", "agreement"]
    accuracy: Share
    drop: Share
    drop_high: Share
    samples: Annotated[int, msgspec.Meta(ge=1)]
    small_s: Seconds
    plan: str
