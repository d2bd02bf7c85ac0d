from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from envs.gym_cards import Blackjack, EZPoints, Points24
from envs.gym_cards.arithmetic import FormulaError, evaluate, solvable, solve
from envs.gym_cards.blackjack import hand_value
from envs.gym_cards.drawing import Card


def cards(*ranks: int) -> tuple[Card, ...]:
    return tuple(Card(rank, "HSDC"[i % 4]) for i, rank in enumerate(ranks))


def play(env: Any, *symbols: str | None) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    step = None
    for symbol in symbols:
        action = None if symbol is None else env.parse_action(symbol)
        assert symbol is None or action is not None
        step = env.step(action)
    assert step is not None
    return step


def points(*ranks: int) -> Any:
    env = EZPoints(width=64, height=64) if len(ranks) == 2 else Points24(width=64, height=64)
    env.reset(seed=0)
    env.cards = cards(*ranks)
    return env


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("( 1 + 2 ) * 3", 9),
        ("8 / ( 3 - 8 / 3 )", 24),
        ("7 - 2 - 1", 4),
        ("8 / 4 / 2", 1),
        ("- ( 2 - 10 ) * 3", 24),
        ("1 / 3", Fraction(1, 3)),
        ("2 * - 3", -6),
    ],
)
def test_evaluate(text: str, value: Fraction) -> None:
    assert evaluate(text.split()) == value


@pytest.mark.parametrize(
    "text", ["", "1 +", "2 4", "( 1", "1 )", "1 / 0", "1 / ( 2 - 2 )", "2 * * 3", "8 / / 2", "6 ( 2 )", "x", "²", "( )"]
)
def test_what_is_no_formula(text: str) -> None:
    with pytest.raises(FormulaError):
        evaluate(text.split())


def brute_force(numbers: tuple[int, ...]) -> bool:
    """All orders, operators and the five shapes of four numbers."""
    for (a, b, c, d), (x, y, z) in product(permutations(numbers), product("+-*/", repeat=3)):
        for shape in (
            f"( ( {a} {x} {b} ) {y} {c} ) {z} {d}",
            f"( {a} {x} ( {b} {y} {c} ) ) {z} {d}",
            f"( {a} {x} {b} ) {y} ( {c} {z} {d} )",
            f"{a} {x} ( ( {b} {y} {c} ) {z} {d} )",
            f"{a} {x} ( {b} {y} ( {c} {z} {d} ) )",
        ):
            try:
                if evaluate(shape.split()) == 24:
                    return True
            except FormulaError:
                pass
    return False


@pytest.mark.parametrize(
    "numbers", [(3, 3, 8, 8), (1, 5, 5, 5), (1, 1, 1, 1), (4, 4, 10, 10), (6, 6, 6, 6), (1, 1, 2, 9)]
)
def test_solve(numbers: tuple[int, ...]) -> None:
    solution = solve(numbers, 24)
    assert (solution is not None) == solvable(numbers[::-1], 24) == brute_force(numbers)
    if solution is not None:
        assert evaluate(solution) == 24
        assert sorted(int(symbol) for symbol in solution if symbol.isdecimal()) == sorted(numbers)
        assert len(solution) <= Points24.max_symbols


@pytest.mark.parametrize(
    ("ranks", "symbols", "reward"),
    [
        ((2, 13), "10 + 2 =", 10),  # a king counts 10
        ((6, 2), "6 * 2 =", 10),
        ((6, 2), "6 + 2 =", -1),
        ((6, 6), "6 + 6 =", 10),
        ((10, 2), "10 =", -1),
        ((10, 2), "10 2 =", -1),
        ((10, 2), "=", -1),
        ((6, 2), "6 * * 2 =", -1),
        ((3, 3, 8, 8), "8 / ( 3 - 8 / 3 ) =", 10),
        ((2, 4, 1, 1), "2 4 + 1 - 1 =", -1),
        ((4, 6, 1, 1), "4 * 6 =", -1),
    ],
)
def test_equals(ranks: tuple[int, ...], symbols: str, reward: float) -> None:
    _, got, terminated, truncated, info = play(points(*ranks), *symbols.split())
    assert (got, terminated, truncated) == (reward, True, False)
    assert info == {"invalid": False, "success": reward == 10}


def test_numbers_that_are_not_on_the_table_cost_and_add_a_blank() -> None:
    env = points(6, 2)
    assert play(env, "5")[1:] == (-1.0, False, False, {"invalid": False})
    assert play(env, "6")[1] == 0.0
    assert play(env, "6")[1] == -1.0  # used up
    assert env.formula == [" ", "6", " "]
    assert play(env, "*", "2", "=")[1] == 10.0


@pytest.mark.parametrize(("ranks", "limit"), [((6, 2), 5), ((1, 2, 3, 4), 20)])
@pytest.mark.parametrize("symbol", ["+", None])
def test_too_long_formulas_are_truncated(ranks: tuple[int, ...], limit: int, symbol: str | None) -> None:
    env = points(*ranks)
    for _ in range(limit + 1):
        assert play(env, symbol)[2:4] == (False, False)
    assert play(env, symbol)[1:] == (-1.0, False, True, {"invalid": symbol is None, "success": False})


def test_easy_deals() -> None:
    env = EZPoints(width=32, height=32)
    seen, products = set(), 0
    for seed in range(2000):
        env.reset(seed=seed)
        a, b = (card.value for card in env.cards)
        assert a + b == 12 or a * b == 12
        products += (a, b) in ((3, 4), (4, 3))
        seen.add((a, b))
    expected = {(a, 12 - a) for a in range(2, 11)} | {
        pair for n in (2, 3, 4, 6) for pair in ((n, 12 // n), (12 // n, n))
    }
    assert seen == expected
    # The first card is 3 or 4 in 2 of 12 cases, half of which become products.
    assert abs(products / 2000 - 1 / 12) < 0.02


@pytest.mark.parametrize("env", [EZPoints(width=64, height=64), Points24(width=64, height=64, solvable_only=True)])
def test_expert_solves(env: Any) -> None:
    for seed in range(10):
        env.reset(seed=seed)
        terminated = False
        while not terminated:
            text = env.expert_action()
            assert text is not None
            _, reward, terminated, _, _ = play(env, text)
        assert reward == 10.0


def test_deals_may_be_unsolvable() -> None:
    env = Points24(width=16, height=16)
    solvable = 0
    for seed in range(60):
        env.reset(seed=seed)
        solvable += solve([card.value for card in env.cards], 24) is not None
    assert 0 < solvable < 60


@pytest.mark.parametrize(
    ("ranks", "total"),
    [((1, 13), 21), ((1, 1), 12), ((10, 6, 1), 17), ((1, 5, 5), 21), ((9, 9, 9), 27), ((1, 1, 10), 12)],
)
def test_hand_value(ranks: tuple[int, ...], total: int) -> None:
    assert hand_value(cards(*ranks)) == total


@pytest.mark.parametrize(
    ("player", "dealer", "reward"),
    [
        ((10, 9), (10, 8), 1),
        ((10, 8), (10, 8), 0),
        ((10, 7), (10, 8), -1),
        ((1, 13), (10, 10), 1),
        ((10, 2), (1, 6), -1),
    ],
)
def test_blackjack_stand(player: tuple[int, ...], dealer: tuple[int, ...], reward: int) -> None:
    env = Blackjack(width=64, height=64)
    env.reset(seed=0)
    env.player, env.dealer = cards(*player), cards(*dealer)
    assert play(env, "stand")[1:] == (reward, True, False, {"invalid": False, "success": reward == 1})
    assert env.dealer == cards(*dealer)


def test_blackjack_dealer_draws_to_17() -> None:
    env = Blackjack(width=64, height=64)
    for seed in range(200):
        env.reset(seed=seed)
        reward = play(env, "stand")[1]
        dealer, player = hand_value(env.dealer), hand_value(env.player)
        assert dealer >= 17
        assert len(env.dealer) == 2 or hand_value(env.dealer[:-1]) < 17
        assert reward == (1 if dealer > 21 else np.sign(player - dealer))


def test_blackjack_hit() -> None:
    env = Blackjack(width=64, height=64)
    for seed in range(50):
        env.reset(seed=seed)
        terminated = False
        while not terminated:
            _, reward, terminated, _, info = play(env, "hit")
            assert terminated == (hand_value(env.player) > 21)
        assert (reward, info["success"]) == (-1.0, False)


def test_blackjack_hides_the_dealers_second_card() -> None:
    env = Blackjack(width=96, height=96)
    first, _ = env.reset(seed=0)
    env.dealer = (env.dealer[0], Card(9, "S"), Card(4, "H"))
    assert np.array_equal(env.render(), first["frames"][0])
    env.player = (*env.player, Card(2, "H"))
    assert not np.array_equal(env.render(), first["frames"][0])


def test_blackjack_of_invalid_answers_ends() -> None:
    env = Blackjack(width=16, height=16)
    env.reset(seed=0)
    hands = env.player, env.dealer
    steps = [env.step(None)[1:] for _ in range(300)]
    assert steps[:-1] == [(-1.0, False, False, {"invalid": True})] * 299
    assert steps[-1] == (-1.0, False, True, {"invalid": True, "success": False})
    assert (env.player, env.dealer) == hands


def test_the_expert_is_the_same_whatever_the_hash_seed() -> None:
    code = """
from envs.gym_cards import EZPoints, Points24

for env in (EZPoints(width=64, height=64), Points24(width=64, height=64, solvable_only=True)):
    for seed in range(8):
        env.reset(seed=seed)
        while (symbol := env.expert_action()) is not None:
            print(symbol, end=" ")
            if env.step(env.parse_action(symbol))[2]:
                break
"""
    path = os.pathsep.join(sys.path)
    plays = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        plays.add(done.stdout)
    assert len(plays) == 1
    assert plays.pop().count("=") == 16
