"""Blackjack."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from envs.base import Mark, Observation
from envs.fonts import fit_font
from envs.gym_cards.drawing import SUITS, Card, draw_row, faces, table
from envs.gym_cards.game import Game


def hand_value(cards: Sequence[Card]) -> int:
    """What a hand counts; one ace counts 11 where that does not exceed 21."""
    total = sum(card.value for card in cards)
    return total + 10 if any(card.rank == 1 for card in cards) and total <= 11 else total


_TOPS = (0.02, 0.52)  # of the dealer's half and the player's, as shares of the height


@lru_cache(maxsize=8)
def _empty_table(width: int, height: int) -> Image.Image:
    image, draw = table(width, height)
    font = fit_font("Dealer", round(width * 0.4), round(height * 0.055))
    for name, top in zip(("Dealer", "Player"), _TOPS, strict=True):
        draw.text((width * 0.02, height * (top + 0.04)), name, "white", font, anchor="lm")
    return image


class Blackjack(Game):
    """Beat the dealer without exceeding 21; every card is drawn from an infinite deck.

    Observations: one picture (1, height, width, 3) uint8 with the dealer's first card, the back of the second, and
    the player's hand, and the prompt. Sums are not shown.

    Actions: 0 is "stand": the dealer then draws to 17. 1 is "hit": the player draws a card.

    Rewards: at the end +1 for a win, 0 for a draw, -1 for a loss; before it 0. `step(None)` draws nothing and costs
    `invalid_reward`.

    Episodes terminate when the player stands or exceeds 21 and are truncated after 300 steps, the limit that the
    released game is registered with; only invalid answers get that far. Success is a win.
    """

    names = ("stand", "hit")
    rules = (
        "You play blackjack.\n"
        "The image shows the dealer's cards, one of them face down, above your own. Get closer to 21 than the dealer "
        'without exceeding it. J, Q and K count as 10, A as 1 or 11. "hit" draws a card, "stand" ends your turn; the '
        "dealer then draws until reaching 17."
    )
    terse_rules = "beat the dealer, at most 21."
    max_episode_steps = 300
    steps = 0
    dealer: tuple[Card, ...] = ()
    player: tuple[Card, ...] = ()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Deals two cards to each."""
        super().reset(seed=seed)
        self.steps = 0
        self.dealer, self.player = (self._draw(), self._draw()), (self._draw(), self._draw())
        return self._observation(), {}

    def step(self, action: int | None) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Draws a card, or ends the player's turn.

        Raises:
            ValueError: `action` is neither None nor in `action_space`.
        """
        self._check(action)
        self.steps += 1
        outcome, terminated = 0, False
        if action == 1:
            self.player = (*self.player, self._draw())
            terminated = hand_value(self.player) > 21
            outcome = -1 if terminated else 0
        elif action == 0:
            while hand_value(self.dealer) < 17:
                self.dealer = (*self.dealer, self._draw())
            dealer, player = hand_value(self.dealer), hand_value(self.player)
            outcome, terminated = (1 if dealer > 21 or player > dealer else 0 if player == dealer else -1), True
        truncated = not terminated and self.steps >= self.max_episode_steps
        info: dict[str, Any] = {"invalid": action is None}
        if terminated or truncated:
            info["success"] = outcome == 1
        return (
            self._observation(),
            self.invalid_reward if action is None else float(outcome),
            terminated,
            truncated,
            info,
        )

    def render(self) -> NDArray[np.uint8]:
        """The picture as it is now, (height, width, 3) uint8; the dealer's other cards stay hidden to the end."""
        image = _empty_table(self.width, self.height).copy()
        theirs, own = self._rows()
        draw_row(image, [*self.dealer[:1], None], *theirs)
        draw_row(image, self.player, *own)
        return np.asarray(image, dtype=np.uint8).copy()

    def describe(self) -> str:
        """The dealer's card, the player's cards and what they count, such as "dealer 10 player 9 6 total 15"."""
        hand = " ".join(card.face for card in self.player)
        return f"dealer {self.dealer[0].face} player {hand} total {hand_value(self.player)}"

    def marks(self) -> tuple[Mark, ...]:
        """What is printed on the cards in sight."""
        theirs, own = self._rows()
        found = [*faces(self.dealer[:1], *theirs), *faces(self.player, *own)]
        return tuple(Mark(face, x / self.width, y / self.height) for face, x, y in found)

    def _rows(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Upper left corner of each row of cards, and the width of one; the dealer's first."""
        size = min(self.width * 0.22, self.height * 0.24)
        # Hands of more than four cards are drawn narrower, so that every card stays in the picture.
        own = min(size, self.width * 0.96 / (1.08 * max(len(self.player), 1)))
        left, (upper, lower) = self.width * 0.02, (self.height * (top + 0.09) for top in _TOPS)
        return (left, upper, size), (left, lower, own)

    def expert_action(self) -> str | None:
        """Basic strategy for an infinite deck with only hit and stand (Sutton & Barto, figure 5.2)."""
        total, shown = hand_value(self.player), self.dealer[0].value
        soft = total != sum(card.value for card in self.player)
        if soft:
            hit = total < 18 or (total == 18 and shown >= 9)
        else:
            hit = total < 12 or (total < 17 and (shown == 1 or shown >= 7)) or (total == 12 and shown in (2, 3))
        return "hit" if hit else "stand"

    def _draw(self) -> Card:
        return Card(int(self.np_random.integers(1, 14)), SUITS[int(self.np_random.integers(len(SUITS)))])
