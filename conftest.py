"""How the tests are shared out where several processes run them: ``make test``."""

import pytest
from xdist.scheduler import LoadScopeScheduling

_ONE_AT_A_TIME = (
    "tests/cloud_fn/test_bad_handlers.py",
    "tests/cloud_fn/test_ray_launcher.py",
    "tests/cloud_fn/test_serve.py",
    "tests/cloud_fn/test_warm_cuts.py",
    "tests/integration/test_demo.py",
    "tests/integration/test_gateways.py",
    "tests/integration/test_head.py",
    "tests/integration/test_storm.py",
    "tests/integration/test_trace.py",
    "tests/integration/test_two_nodes.py",
    "tests/testbed/bench/test_functions_servers.py",
    "tests/testbed/test_bench_rig.py",
)
"""Those that start a Ray, or measure: two of them at once would only be in each other's way. They
spend most of their time waiting, which is when the others run."""


class _ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """A file is one process's, and so is all that is to run one at a time."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_ONE_AT_A_TIME):
            return "one at a time"
        return nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    return _ByFile(config, log)
