from __future__ import annotations

from vldac.utils.seeding import derive_seed


def test_seeds_of_different_purposes_differ_and_never_change() -> None:
    paths = [("sampling", 0), ("sampling", 1), ("minibatches", 0), ("weights",), ()]
    found = [derive_seed(3, *path) for path in paths]
    assert len(set(found)) == len(paths)
    assert all(0 <= seed < 2**63 for seed in found)
    assert derive_seed(3, "weights") == derive_seed(3, "weights") != derive_seed(4, "weights")
    assert derive_seed(0, "weights") == 3245395985266979118
