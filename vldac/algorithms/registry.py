"""Algorithms by name, with their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vldac.utils.errors import UserError
from vldac.utils.registry import Registry

if TYPE_CHECKING:
    from vldac.algorithms.base import Algorithm
    from vldac.config import TrainConfig

#: Names for `train.algorithm`; each leads to a subclass of `Algorithm`.
ALGORITHMS = Registry(
    "algorithm",
    {
        "vldac": "vldac.algorithms.vldac:VLDAC",
        "rl4vlm": "vldac.algorithms.rl4vlm:RL4VLM",
        "loop": "vldac.algorithms.loop:LOOP",
        "grpo": "vldac.algorithms.grpo:GRPO",
        "ppo_token": "vldac.algorithms.ppo_token:TokenPPO",
    },
    group="vldac.algorithms",
)


class AlgorithmOptionsError(UserError, ValueError):
    """An option of an algorithm is unknown or has a wrong value; one line for each."""


def check_options(name: str, options: Mapping[str, Any]) -> Any:
    """The typed options of an algorithm.

    Raises:
        UnknownNameError: there is no such algorithm.
        AlgorithmOptionsError: an option is unknown or has a wrong value.
    """
    from vldac.config.errors import explain  # noqa: PLC0415  # the configuration imports this module

    kind = ALGORITHMS.load(name).Options
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        lines = (f"train.algorithm_options of {name}: {explain(one, kind)}" for one in error.errors())
        raise AlgorithmOptionsError("\n".join(lines)) from None


def make(train: TrainConfig) -> Algorithm:
    """The algorithm that a configuration names, with its options.

    Raises:
        UnknownNameError: there is none of this name, or it cannot be imported.
        AlgorithmOptionsError: an option is wrong.
    """
    algorithm: Algorithm = ALGORITHMS.load(train.algorithm)(
        train, check_options(train.algorithm, train.algorithm_options)
    )
    return algorithm
