"""A lean executor of plans on real parts: a slow device, an emulated link and a cloud.

Two processes of ours and the link's, no broker and no gateway: what is measured is the plan, the
frames and the Python around it. :class:`Rig` starts them and gives the orders.
"""

from testbed.bench.rig.calibration import Overhead, calibrate
from testbed.bench.rig.orders import Asked, Share, Streamed, Way, way_of
from testbed.bench.rig.parts import Rig
from testbed.bench.rig.schedule import interleaved

__all__ = [
    "Asked",
    "Overhead",
    "Rig",
    "Share",
    "Streamed",
    "Way",
    "calibrate",
    "interleaved",
    "way_of",
]
