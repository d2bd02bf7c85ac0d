"""Whether the numbers of an update agree with each other: what was sampled, what is scored, what is learned from.

The same weights give the same log-probabilities up to rounding. In float32 that is 1e-6; in bfloat16 single tokens are
off by tenths of a nat, but with either sign, and no response is off as a whole. A wrong temperature biases all tokens,
a shifted token spoils a whole response: so the mean over all tokens and the mean error of each response are what is
looked at, and never the worst token of ten thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vldac.distributed import Runtime
from vldac.utils.errors import UserError


class HealthError(UserError):
    """The learner's own numbers contradict each other; another update would train on nonsense."""


@dataclass(frozen=True)
class Limits:
    """How far two log-probabilities of the same tokens may be apart, in nats.

    Attributes:
        bias: the mean difference over all tokens of a rollout or batch, either way.
        response: the mean absolute difference within one response.
    """

    bias: float
    response: float


#: By dtype of the weights.
LIMITS = {"float32": Limits(1e-5, 1e-4), "bfloat16": Limits(0.02, 0.4), "float16": Limits(0.02, 0.4)}
#: Where one of two has been computed by another engine, rounding is that of its kernels, whatever the weights are.
OTHER_KERNELS = "bfloat16"


@dataclass(frozen=True)
class Agreement:
    """How two log-probabilities of the same tokens compare, over all ranks.

    Attributes:
        bias: mean difference, new less old.
        response: the largest mean absolute difference within one response.
        largest: absolute difference of one token.
    """

    bias: float
    response: float
    largest: float


def compare(new: Sequence[Tensor], old: Sequence[Tensor], runtime: Runtime) -> Agreement:
    """Compares the log-probabilities of responses, each (R_i,); every rank must call it."""
    differences = [(a.detach().cpu() - b.cpu()).double() for a, b in zip(new, old, strict=True)]
    every = torch.cat(differences)
    total, count = runtime.sum(torch.tensor([float(every.sum()), float(len(every))], dtype=torch.float64)).tolist()
    worst = torch.stack([row.abs().mean() for row in differences]).max()  # keeps a NaN, unlike Python's max
    return Agreement(total / count, runtime.max(float(worst)), runtime.max(float(every.abs().max())))


def agrees(agreement: Agreement, dtype: str) -> bool:
    """Whether two log-probabilities are no further apart than rounding explains; not if one of them is NaN."""
    limits = LIMITS[dtype]
    return abs(agreement.bias) <= limits.bias and agreement.response <= limits.response


def require(agreement: Agreement, dtype: str, what: str) -> None:
    """Stops a run whose numbers do not agree.

    Args:
        agreement: of two log-probabilities.
        dtype: of the weights.
        what: which two they are.

    Raises:
        HealthError: they are further apart than rounding explains.
    """
    if agrees(agreement, dtype):
        return
    limits = LIMITS[dtype]
    raise HealthError(
        f"{what} do not come from the same weights, temperature and tokens: they differ by {agreement.bias:.2g} nats "
        f"on average and by up to {agreement.response:.2g} over a response (limits for {dtype}: {limits.bias:g} and "
        f"{limits.response:g})"
    )
