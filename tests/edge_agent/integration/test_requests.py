"""What a device answers, to whom and how."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.packets import Message
from planner.model import Model
from protos.envelope import pack
from protos.json_tensors import JsonTensor
from protos.wire import Tensor
from testbed.broker import Broker

from .conftest import LIMIT_S, TOPICS, Agents, App

pytestmark = pytest.mark.integration
