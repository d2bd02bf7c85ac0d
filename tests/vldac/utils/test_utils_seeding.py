from __future__ import annotations

import json

import torch

from vldac.utils.seeding import derive_seed, generator_state, restore_generator


def test_a_generator_resumes_from_its_saved_state() -> None:
    generator, other = torch.Generator().manual_seed(4), torch.Generator()
    torch.randn(7, generator=generator)
    state = json.loads(json.dumps(generator_state(generator)))
    expected = torch.randn(16, generator=generator)
    restore_generator(other, state)
    assert torch.equal(torch.randn(16, generator=other), expected)


def test_seeds_of_different_purposes_differ_and_never_change() -> None:
    paths = [("sampling", 0), ("sampling", 1), ("minibatches", 0), ("weights",), ()]
    found = [derive_seed(3, *path) for path in paths]
    assert len(set(found)) == len(paths)
    assert all(0 <= seed < 2**63 for seed in found)
    assert derive_seed(3, "weights") == derive_seed(3, "weights") != derive_seed(4, "weights")
    assert derive_seed(0, "weights") == 3245395985266979118
