"""Gym-Cards, the card and number games of RL4VLM (Zhai et al. 2024, arXiv 2405.10292).

The rules are those of the released games (https://github.com/RL4VLM/RL4VLM, gym-cards); what differs is said in each
class. The pictures are drawn here with Pillow and its bundled font. Every random draw comes from the generator that
`reset(seed=...)` seeds, so a seed gives the same episode everywhere.
"""

from envs.gym_cards.blackjack import Blackjack
from envs.gym_cards.number_line import NumberLine
from envs.gym_cards.points import EZPoints, Points24

__all__ = ["Blackjack", "EZPoints", "NumberLine", "Points24"]
