"""BALROG's entry and its own options."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from benchmarks.harness.options import Options
from benchmarks.harness.registry import register

AgentKind = Literal["naive", "cot"]


class BalrogOptions(Options):
    """BALROG's options."""

    agent: AgentKind = Field(
        default="naive", description="naive answers with an action, cot (chain of thought) reasons first"
    )
    environments: tuple[str, ...] = Field(default=(), description="to play; all that are installed, if none is named")

    @field_validator("environments")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if names:
            from benchmarks.suites.balrog.tasks import check_name  # noqa: PLC0415  # it takes a second

            for name in names:
                check_name(name)
        return names


ENTRY = register(
    "balrog",
    "BALROG",
    "benchmarks.suites.balrog.benchmark:Balrog",
    BalrogOptions,
    default=True,
    surroundings="benchmarks.suites.balrog.tasks:surroundings",
)
