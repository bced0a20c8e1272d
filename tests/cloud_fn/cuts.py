"""What a fake pool has to say of cuts."""
# ruff: noqa: ARG002  (takes what the real one takes)

from collections.abc import Sequence

from cloud_fn.functions import Function
from cloud_fn.functions.cuts import Cut, CutsReport


class FakeCuts:
    """Has every cut that it was told of, but for those that are refused; keeps what was used."""

    def __init__(self) -> None:
        self.deployed: list[Cut] = []
        self.used_by: list[tuple[str, str, Cut]] = []
        self.refused: dict[Cut, str] = {}

    def deploy(self, function: Function, cuts: Sequence[Cut]) -> CutsReport:
        self.deployed += cuts
        return self.report(function)

    def report(self, function: Function) -> CutsReport:
        warm = tuple(cut for cut in self.deployed if cut not in self.refused)
        return CutsReport(warm=warm, refused=self.refused)

    def used(self, function: Function, instance: str, cut: Cut) -> None:
        self.used_by.append((function.key, instance, cut))
