from __future__ import annotations

import pytest

from vldac.minibatches import equal_passes, micro_batches, minibatches

Pair = tuple[int, int]


def batches(num_envs: int, steps: int, size: int, ranks: int, *, whole: bool = False) -> list[list[set[Pair]]]:
    """Of each rank, its batches as sets of (step, simulator over all ranks)."""
    local = num_envs // ranks
    found = []
    for rank in range(ranks):
        mine = minibatches(num_envs, steps, size, seed=3, rank=rank, ranks=ranks, whole=whole)
        rows = [[(i // local, rank * local + i % local) for i in batch] for batch in mine]
        assert all(len(set(row)) == len(row) == size // ranks for row in rows)
        found.append([set(row) for row in rows])
    return found


@pytest.mark.parametrize(("num_envs", "steps", "size"), [(16, 16, 32), (8, 6, 12), (4, 8, 32), (16, 4, 8)])
def test_a_batch_holds_the_same_steps_on_any_number_of_ranks(num_envs: int, steps: int, size: int) -> None:
    (alone,) = batches(num_envs, steps, size, 1)
    assert len(alone) == num_envs * steps // size
    assert set().union(*alone) == {(t, n) for t in range(steps) for n in range(num_envs)}
    for ranks in (2, 4):
        together = batches(num_envs, steps, size, ranks)
        assert [set().union(*parts) for parts in zip(*together, strict=True)] == alone


def test_whole_batches_hold_all_steps_of_their_simulators() -> None:
    (alone,) = batches(8, 5, 20, 1, whole=True)
    for batch in alone:
        simulators = {n for _, n in batch}
        assert len(simulators) == 4
        assert batch == {(t, n) for t in range(5) for n in simulators}
    together = batches(8, 5, 20, 2, whole=True)
    assert [set().union(*parts) for parts in zip(*together, strict=True)] == alone


def test_the_order_is_random_and_of_the_seed() -> None:
    first, again, other = (list(minibatches(4, 8, 8, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert first[0] != sorted(first[0])


def test_micro_batches_keep_their_order_without_a_budget() -> None:
    assert micro_batches([5, 1, 4, 0, 2], [9] * 6, 2, None) == [[5, 1], [4, 0], [2]]


def test_micro_batches_fit_the_budget_padding_included() -> None:
    lengths = [3, 10, 4, 7, 30, 3, 9]
    batch = [0, 1, 2, 3, 4, 5, 6]
    parts = micro_batches(batch, lengths, 3, 20)
    assert sorted(i for part in parts for i in part) == batch
    for part in parts:
        assert len(part) <= 3
        assert len(part) * max(lengths[i] for i in part) <= 20 or len(part) == 1
    assert [4] in parts  # longer than the budget: by itself
    assert len(parts) == 4


@pytest.mark.parametrize("passes", [1, 3, 4, 5, 7, 9])
def test_parts_are_split_until_every_rank_makes_as_many_passes(passes: int) -> None:
    split = equal_passes([[1, 2, 3, 4], [5, 6], [7]], passes)
    assert len(split) == max(3, passes)
    assert sorted(i for part, count in split if count for i in part) == [1, 2, 3, 4, 5, 6, 7]
    assert all(count in {0, len(part)} and part for part, count in split)
    assert sum(count for _, count in split) == 7
