"""Answers that a broken or malicious model might write, for trying environments."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

_ALPHABET = list('{}[]":,\\ \n\t\0abcZ019.-+*/=()<>&é漢🙂\u202e\ud7ff')


def hostile_answer(rng: np.random.Generator, names: Sequence[str]) -> str:
    """One answer of a model that is broken in one of many ways, or not at all.

    Args:
        rng: draws it.
        names: the actions that are accepted now, at least one.
    """

    def noise(most: int) -> str:
        return "".join(rng.choice(_ALPHABET, size=int(rng.integers(0, most))))

    name = names[int(rng.integers(len(names)))]
    good = json.dumps({"thoughts": noise(12), "action": name})
    kinds = [
        lambda: noise(40),
        lambda: good,
        lambda: good[: int(rng.integers(len(good)))],
        lambda: good.replace(name, name + noise(6)),
        lambda: json.dumps({"action": rng.choice(np.array([None, True, 1e999, 7, -3]), size=1)[0]}, default=str),
        lambda: '{"action": ' + "[" * int(rng.integers(1, 3000)),
        lambda: json.dumps({"action": name * int(rng.integers(2, 200))}),
        lambda: json.dumps({"action": f"search[{noise(30)}]"}),
        lambda: json.dumps({"action": f"click[{noise(30)}]"}),
        lambda: "__import__('os').system('true')",
        lambda: json.dumps({"action": f"go to {noise(9)}"}),
    ]
    return str(kinds[int(rng.integers(len(kinds)))]())
