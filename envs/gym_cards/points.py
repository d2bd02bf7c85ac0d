"""EZPoints and Points24: build a formula out of the cards on the table, one symbol a step."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from envs.base import Mark, Observation, PromptStyle
from envs.fonts import Font, fit_font
from envs.gym_cards.arithmetic import FormulaError, evaluate, solvable, solve
from envs.gym_cards.drawing import SUITS, Card, draw_row, faces, table
from envs.gym_cards.game import Game

_NUMBERS = tuple(str(number) for number in range(1, 11))
_LEFT, _LINE = 0.03, 0.9  # of the formula, as shares of the picture


def _row(count: int, width: int, height: int) -> tuple[float, float, float]:
    """Upper left corner of a row of cards, and the width of one."""
    return width * 0.02, height * 0.08, min(width * 0.9 / count, height * 0.42)


@lru_cache(maxsize=64)  # the picture of a deal does not change within an episode
def _deal_picture(cards: tuple[Card, ...], width: int, height: int) -> Image.Image:
    """The cards on the table, over an empty formula."""
    image, draw = table(width, height)
    draw_row(image, cards, *_row(len(cards), width, height))
    label = fit_font("Formula:", round(width * 0.4), round(height * 0.09))
    draw.text((width * 0.03, height * 0.76), "Formula:", "white", label, anchor="lm")
    return image


class _Points(Game):
    """The rules that both games share.

    Observations: one picture (1, height, width, 3) uint8, the cards with the formula below them, and the prompt.

    Rewards: +10 where "=" is chosen and the formula has the target's value and uses as many numbers as there are
    cards, -1 where it does not; -1 for a number that is not on the table or used up, for which a blank is added to
    the formula; -1 for a step that begins with more than `max_symbols` symbols; else 0. `step(None)` adds a blank and
    costs `invalid_reward`.

    Episodes terminate at "=" and are truncated by the step that begins with too many symbols. Success is the +10.

    The released games hand the joined symbols to Python, in floating point, so that two numbers in a row read as one
    ("2", "4" as 24), "*", "*" is a power, "/", "/" divides and rounds down, and 8/(3-8/3) misses 24. Here the symbols
    stay apart and values are exact.
    """

    target: ClassVar[int]
    max_symbols: ClassVar[int]
    cards: tuple[Card, ...] = ()

    def __init__(
        self,
        *,
        width: int = 300,
        height: int = 300,
        prompt_style: PromptStyle = "full",
        invalid_reward: float | None = None,
    ) -> None:
        super().__init__(width=width, height=height, prompt_style=prompt_style, invalid_reward=invalid_reward)
        self.formula: list[str] = []

    @abstractmethod
    def _deal(self) -> tuple[Card, ...]:
        """Draws the cards."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Deals cards and clears the formula."""
        super().reset(seed=seed)
        self.cards = self._deal()
        self.formula = []
        return self._observation(), {}

    def step(self, action: int | None) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Adds a symbol, or evaluates the formula.

        Raises:
            ValueError: `action` is neither None nor in `action_space`.
        """
        self._check(action)
        symbol = None if action is None else self.names[action]
        reward, terminated, truncated = 0.0, False, False
        if len(self.formula) > self.max_symbols:
            reward, truncated = -1.0, True
        elif symbol is None:
            self.formula.append(" ")
        elif symbol == "=":
            reward, terminated = (10.0 if self._solved() else -1.0), True
        elif symbol in _NUMBERS and self._left(symbol) < 1:
            self.formula.append(" ")
            reward = -1.0
        else:
            self.formula.append(symbol)
        info: dict[str, Any] = {"invalid": action is None}
        if terminated or truncated:
            info["success"] = reward == 10.0
        return self._observation(), self.invalid_reward if action is None else reward, terminated, truncated, info

    def render(self) -> NDArray[np.uint8]:
        """The picture as it is now, (height, width, 3) uint8."""
        image = _deal_picture(self.cards, self.width, self.height).copy()
        text, font = self._written()
        ImageDraw.Draw(image).text((self.width * _LEFT, self.height * _LINE), text, "white", font, anchor="lm")
        return np.asarray(image, dtype=np.uint8).copy()

    def describe(self) -> str:
        """The values of the cards and the formula so far, such as "cards 10 2 formula 10 +"."""
        formula = " ".join(symbol for symbol in self.formula if symbol != " ") or "empty"
        return f"cards {' '.join(str(card.value) for card in self.cards)} formula {formula}"

    def marks(self) -> tuple[Mark, ...]:
        """What is printed on the cards, and the symbols of the formula."""
        found = faces(self.cards, *_row(len(self.cards), self.width, self.height))
        text, font = self._written()
        at = 0
        for symbol in self.formula:
            start, end = (self.width * _LEFT + font.getlength(text[:count]) for count in (at, at + len(symbol)))
            at += len(symbol) + 1
            if symbol != " ":
                found.append((symbol, (start + end) / 2, self.height * _LINE))
        return tuple(Mark(name, x / self.width, y / self.height) for name, x, y in found)

    def _written(self) -> tuple[str, Font]:
        """The formula and its font."""
        text = " ".join(self.formula)
        return text, fit_font(text.strip() or "0", round(self.width * 0.94), round(self.height * 0.09))

    def expert_action(self) -> str | None:
        """The next symbol of a solution that begins with the formula so far; None where the one found does not."""
        operators = "".join(operator for operator in "+-*/" if operator in self.names)
        solution = solve([card.value for card in self.cards], self.target, operators)
        formula = [symbol for symbol in self.formula if symbol != " "]
        if solution is None or formula != solution[: len(formula)]:
            return None
        return [*solution, "="][len(formula)]

    def _left(self, number: str) -> int:
        """How many cards of a number have not been used."""
        return sum(str(card.value) == number for card in self.cards) - self.formula.count(number)

    def _solved(self) -> bool:
        symbols = [symbol for symbol in self.formula if symbol != " "]
        try:
            value = evaluate(symbols)
        except FormulaError:
            return False
        return value == self.target and sum(symbol in _NUMBERS for symbol in symbols) == len(self.cards)

    def _suit(self) -> str:
        return SUITS[int(self.np_random.integers(len(SUITS)))]


class EZPoints(_Points):
    """Reach 12 with two cards; every deal can be solved.

    The first card is uniform in 2 to king. Where its value n is 2, 3, 4 or 6 the second is 12 / n with probability
    one half; otherwise it is 12 - n. Their order is swapped with probability one half.
    """

    names = (*_NUMBERS, "+", "*", "=")
    target = 12
    max_symbols = 5
    rules = (
        "You play a card game.\n"
        "The image shows two cards and the formula that you have written so far. Use the value of each card exactly "
        "once, with + or * between them, so that the formula equals 12. J, Q and K count as 10, A counts as 1. You "
        'write one number or operator a turn; when the formula is complete, choose "=".'
    )
    terse_rules = "make 12 with both cards."

    def _deal(self) -> tuple[Card, ...]:
        first = Card(int(self.np_random.integers(2, 14)), self._suit())
        by_product = first.value in (2, 3, 4, 6) and self.np_random.random() < 0.5
        second = Card(12 // first.value if by_product else 12 - first.value, self._suit())
        return (second, first) if self.np_random.random() < 0.5 else (first, second)


class Points24(_Points):
    """Reach 24 with four cards of uniform rank, which may be impossible.

    Args:
        solvable_only: deals again until a deal can be solved.
        width: see `Game`.
        height: see `Game`.
        prompt_style: see `Env`.
        invalid_reward: see `Env`.
    """

    names = (*_NUMBERS, "+", "-", "*", "/", "(", ")", "=")
    target = 24
    max_symbols = 20
    rules = (
        "You play a card game.\n"
        "The image shows four cards and the formula that you have written so far. Use the value of each card exactly "
        "once, with +, -, *, / and parentheses, so that the formula equals 24. J, Q and K count as 10, A counts as 1. "
        'You write one number, operator or parenthesis a turn; when the formula is complete, choose "=".'
    )
    terse_rules = "make 24 with all cards."

    def __init__(
        self,
        *,
        width: int = 300,
        height: int = 300,
        prompt_style: PromptStyle = "full",
        invalid_reward: float | None = None,
        solvable_only: bool = False,
    ) -> None:
        super().__init__(width=width, height=height, prompt_style=prompt_style, invalid_reward=invalid_reward)
        self.solvable_only = solvable_only

    def _deal(self) -> tuple[Card, ...]:
        while True:
            cards = tuple(Card(int(self.np_random.integers(1, 14)), self._suit()) for _ in range(4))
            if not self.solvable_only or solvable([card.value for card in cards], self.target):
                return cards
