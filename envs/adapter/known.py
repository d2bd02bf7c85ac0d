"""What Gymnasium's own environments do not say of themselves: words for their actions, goals, states, and experts.

Numbers of actions and meanings of observations follow the documentation of each environment (gymnasium 1.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DISCOUNT = 0.99
_SWEEPS = 1000


@dataclass(frozen=True)
class Known:
    """One environment, whatever its version.

    Attributes:
        instruction: what is to be done, for a pretrained model.
        terse: the same in as few words as can be.
        actions: a name for each, in the order of the action space.
        ends_at_goal: the environment terminates at its goal and nowhere else.
        describe: a short, true sentence about (the unwrapped environment, its observation).
        expert: number of the action that a competent player takes at an observation.
    """

    instruction: str
    terse: str
    actions: tuple[str, ...]
    ends_at_goal: bool = False
    describe: Callable[[Any, Any], str] | None = None
    expert: Callable[[Any], int] | None = None


def _side(value: float, negative: str, positive: str) -> str:
    return negative if value < 0 else positive


def _describe_cart_pole(_env: Any, state: NDArray[np.float32]) -> str:
    cart, _, pole, falls = (_side(number, "left", "right") for number in state)
    return f"cart {cart} pole {pole} falls {falls}"


def _balance(state: NDArray[np.float32]) -> int:
    """A linear controller of the pole and, so that the cart stays on its track, of the cart."""
    return int(np.dot(state, (0.1, 0.2, 1.0, 0.5)) > 0)


def _describe_mountain_car(_env: Any, state: NDArray[np.float32]) -> str:
    position, velocity = state
    return f"car {_side(position + np.pi / 6, 'left', 'right')} of valley moves {_side(velocity, 'left', 'right')}"


def _swing(state: NDArray[np.float32]) -> int:
    """Accelerates the way that the car moves."""
    return 2 if state[1] >= 0 else 0


def _describe_acrobot(_env: Any, state: NDArray[np.float32]) -> str:
    # The free end is -cos(t1) - cos(t1 + t2) above the joint, in lengths of a link.
    cos1, sin1, cos2, sin2 = state[:4]
    height = -cos1 - (cos1 * cos2 - sin1 * sin2)
    return f"tip {_side(height, 'below', 'above')} joint"


def _describe_cell(env: Any, state: int) -> str:
    columns = env.shape[1] if hasattr(env, "shape") else env.ncol
    return "row {} column {}".format(*divmod(int(state), columns))


_PLACES = ("red", "green", "yellow", "blue", "taxi")


def _describe_taxi(env: Any, state: int) -> str:
    row, column, passenger, destination = env.decode(int(state))
    return f"taxi row {row} column {column} passenger {_PLACES[passenger]} to {_PLACES[destination]}"


_LAKE = Known(
    instruction="You walk over a frozen lake, seen from above. Reach the present without stepping into a hole.",
    terse="frozen lake. reach the present, not a hole.",
    actions=("left", "down", "right", "up"),
    describe=_describe_cell,
)
_CLIFF = Known(
    instruction="You walk along a cliff, seen from above. Reach the cookie in as few steps as possible; whoever steps "
    "over the edge begins anew.",
    terse="cliff. reach the cookie, not the edge.",
    actions=("up", "right", "down", "left"),
    ends_at_goal=True,
    describe=_describe_cell,
)
#: By the name in an id, without its version.
KNOWN: Mapping[str, Known] = {
    "CartPole": Known(
        instruction="A pole stands on a cart. Push the cart to the left or to the right so that the pole does not fall "
        "over and the cart stays in the picture.",
        terse="cart pole. keep the pole upright.",
        actions=("left", "right"),
        describe=_describe_cart_pole,
        expert=_balance,
    ),
    "MountainCar": Known(
        instruction="A car stands in a valley, and its engine is too weak to drive straight up. Swing back and forth "
        "until the car reaches the flag on the right.",
        terse="mountain car. reach the flag.",
        actions=("left", "wait", "right"),
        ends_at_goal=True,
        describe=_describe_mountain_car,
        expert=_swing,
    ),
    "Acrobot": Known(
        instruction="Two links hang from a joint, and you turn the joint between them. Swing the free end above the "
        "line.",
        terse="acrobot. swing the tip above the line.",
        actions=("left", "wait", "right"),
        ends_at_goal=True,
        describe=_describe_acrobot,
    ),
    "FrozenLake": _LAKE,
    "FrozenLake8x8": _LAKE,
    "CliffWalking": _CLIFF,
    "CliffWalkingSlippery": _CLIFF,
    "Taxi": Known(
        instruction="You drive a taxi, seen from above. Pick up the passenger at one of the four marked places and "
        "drop them off at the hotel.",
        terse="taxi. bring the passenger to the hotel.",
        actions=("down", "up", "right", "left", "pick up", "drop off"),
        ends_at_goal=True,
        describe=_describe_taxi,
    ),
    "LunarLander": Known(
        instruction="A lander comes down on the moon. Fire its engines so that it lands softly between the flags.",
        terse="lunar lander. land between the flags.",
        actions=("none", "left engine", "main engine", "right engine"),
    ),
}


def best_actions(env: Any) -> NDArray[np.int64] | None:
    """The optimal action in each state of an environment that tells its transitions, by value iteration.

    Args:
        env: unwrapped; its `P`, if it has one, maps state and action to (probability, state, reward, terminated) each.

    Returns:
        (S,) int64, or None where the environment has no such table.
    """
    table = getattr(env, "P", None)
    if not isinstance(table, Mapping):
        return None
    rows = tuple(
        (int(state), int(action), float(p), int(following), float(reward), bool(terminated))
        for state, actions in table.items()
        for action, outcomes in actions.items()
        for p, following, reward, terminated in outcomes
    )
    return _value_iteration(rows)


@lru_cache(maxsize=8)  # every simulator of a process asks for the same table
def _value_iteration(rows: tuple[tuple[int, int, float, int, float, bool], ...]) -> NDArray[np.int64]:
    state, action, probability, following, reward, terminated = (np.array(column) for column in zip(*rows, strict=True))
    states, actions = int(state.max()) + 1, int(action.max()) + 1
    pair, goes_on = state * actions + action, _DISCOUNT * ~terminated
    q: NDArray[np.float64] = np.zeros((states, actions))
    for _ in range(_SWEEPS):
        outcome = probability * (reward + goes_on * q.max(axis=1)[following])
        q = np.bincount(pair, outcome, states * actions).reshape(states, actions).astype(np.float64)
    return q.argmax(axis=1)
