"""Which environment steps make an optimizer step, alike on any number of ranks, and which of them a forward pass.

Every batch takes equally many steps from each of G = gcd(N, batch size) blocks of simulators, so that ranks, which hold
whole blocks, have equal shares, and the steps of a batch do not depend on how many ranks there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from vldac.utils.seeding import derive_seed


def minibatches(
    num_envs: int, steps: int, batch_size: int, *, seed: int, rank: int = 0, ranks: int = 1, whole: bool = False
) -> Iterator[list[int]]:
    """One rank's share of each optimizer step of one epoch, in random order.

    Args:
        num_envs: N simulators, over all ranks, in blocks of N / ranks.
        steps: T steps of each.
        batch_size: B environment steps of one optimizer step, over all ranks; it divides N * T.
        seed: of this epoch; the same on every rank.
        rank: whose share.
        ranks: how many ranks there are; their number divides N and B.
        whole: all steps of a simulator are in one batch. B is then a multiple of T, and B / T of the ranks.

    Yields:
        B / ranks indices t * (N / ranks) + n of step t of the rank's simulator n.
    """
    local = num_envs // ranks
    per_batch = batch_size // steps if whole else batch_size
    blocks = math.gcd(num_envs, per_batch)
    width, share = num_envs // blocks, per_batch // blocks
    orders = []
    for block in range(rank * blocks // ranks, (rank + 1) * blocks // ranks):
        first = block * width - rank * local
        count = width if whole else width * steps
        order = torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed(seed, block))).tolist()
        orders.append([first + i if whole else i // width * local + first + i % width for i in order])
    for start in range(0, len(orders[0]), share):
        chosen = [i for order in orders for i in order[start : start + share]]
        yield [t * local + n for n in chosen for t in range(steps)] if whole else chosen


def micro_batches(batch: Sequence[int], lengths: Sequence[int], largest: int, budget: int | None) -> list[list[int]]:
    """The forward passes of a rank's share of an optimizer step.

    Args:
        batch: steps, as indices into `lengths`.
        lengths: tokens of each step of the rollout, prompt and response.
        largest: steps of one pass, at most.
        budget: tokens of one pass, at most, padding included; a step that is longer has a pass to itself. None for no
            such limit.

    Returns:
        All of `batch` once: in its order without a budget, by length with one, so that little is padded.
    """
    if budget is None:
        return [list(batch[start : start + largest]) for start in range(0, len(batch), largest)]
    parts: list[list[int]] = []
    for i in sorted(batch, key=lambda i: lengths[i], reverse=True):
        if parts and len(parts[-1]) < largest and (len(parts[-1]) + 1) * lengths[parts[-1][0]] <= budget:
            parts[-1].append(i)
        else:
            parts.append([i])
    return parts


def equal_passes(parts: Sequence[list[int]], passes: int) -> list[tuple[list[int], int]]:
    """Splits parts until there are `passes` of them: sharded weights need as many passes of every rank.

    Returns:
        Each part with the number of steps that it counts for; 0 for one that only keeps step with the other ranks.
    """
    split = [(part, len(part)) for part in parts]
    while len(split) < passes:
        at = max(range(len(split)), key=lambda i: split[i][1])
        part, count = split[at]
        if count < 2:
            split.append((part, 0))
        else:
            split[at : at + 1] = [(part[: count // 2], count // 2), (part[count // 2 :], count - count // 2)]
    return split
