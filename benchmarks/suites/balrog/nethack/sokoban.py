"""Sokoban puzzles in Boxoban's notation: their rules, a solver, and a generator of solvable ones.

`#` is a wall, `@` the player, `$` a box, `.` a goal and a space the floor (google-deepmind/boxoban-levels, README).
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

#: (row, column).
Place = tuple[int, int]

#: The four moves.
MOVES: dict[str, Place] = {"north": (-1, 0), "east": (0, 1), "south": (1, 0), "west": (0, -1)}

#: Of the puzzles made here, as in Boxoban.
SIDE, BOXES = 10, 4
#: MiniHack ends an episode after as many steps.
LONGEST = 100


class PuzzleError(ValueError):
    """Rows that are no puzzle; the message is one line."""


@dataclass(frozen=True)
class Puzzle:
    """A puzzle.

    Attributes:
        rows: all of the same length.
        player, boxes, goals: places on them.
    """

    rows: tuple[str, ...]
    player: Place
    boxes: frozenset[Place]
    goals: frozenset[Place]

    def is_floor(self, place: Place) -> bool:
        """Whether one can stand there, boxes aside."""
        row, column = place
        return 0 <= row < len(self.rows) and 0 <= column < len(self.rows[0]) and self.rows[row][column] != "#"


def puzzle(rows: tuple[str, ...]) -> Puzzle:
    """The puzzle that the rows draw.

    Raises:
        PuzzleError: a character that is none of the notation's, rows of different lengths or more than fit a level of
            NetHack (76x21), no single player, or not as many boxes as goals.
    """
    if not rows or len(rows) > 21 or len(rows[0]) > 76 or len({len(row) for row in rows}) != 1:
        raise PuzzleError("a puzzle has rows of one length, at most 21 of 76 characters")
    unknown = set("".join(rows)) - set("#@$. ")
    if unknown:
        raise PuzzleError(f"a puzzle has no {min(unknown)!r}")
    places = {kind: frozenset(_places(rows, kind)) for kind in "@$."}
    if len(places["@"]) != 1 or not places["$"] or len(places["$"]) != len(places["."]):
        raise PuzzleError("a puzzle has one player and as many boxes as goals")
    return Puzzle(rows, min(places["@"]), places["$"], places["."])


def _places(rows: tuple[str, ...], kind: str) -> Iterator[Place]:
    for row, line in enumerate(rows):
        for column, character in enumerate(line):
            if character == kind:
                yield row, column


def solve(problem: Puzzle, most_states: int = 4000) -> list[str] | None:
    """Moves that solve a puzzle, not always the fewest; None where none were found.

    The search takes the state whose boxes are nearest to goals first (greedy best-first), one push at a time.

    Args:
        problem: the puzzle.
        most_states: after which it gives up.
    """
    distances = _push_distances(problem)
    open_states: list[tuple[int, int, Place, frozenset[Place], tuple[str, ...]]] = []
    seen: set[tuple[Place, frozenset[Place]]] = set()
    pushed = 0

    def consider(player: Place, boxes: frozenset[Place], moves: tuple[str, ...]) -> None:
        nonlocal pushed
        if all(box in distances for box in boxes):  # elsewhere a box never reaches a goal
            pushed += 1
            heapq.heappush(open_states, (sum(distances[box] for box in boxes), pushed, player, boxes, moves))

    consider(problem.player, problem.boxes, ())
    while open_states and len(seen) < most_states:
        _, _, player, boxes, moves = heapq.heappop(open_states)
        if boxes == problem.goals:
            return list(moves)
        walks = _walks(problem, player, boxes)
        state = (min(walks), boxes)
        if state in seen:
            continue
        seen.add(state)
        for box in sorted(boxes):
            for name, (dr, dc) in MOVES.items():
                behind, ahead = (box[0] - dr, box[1] - dc), (box[0] + dr, box[1] + dc)
                if behind in walks and problem.is_floor(ahead) and ahead not in boxes:
                    consider(box, boxes - {box} | {ahead}, (*moves, *walks[behind], name))
    return None


def _walks(problem: Puzzle, player: Place, boxes: frozenset[Place]) -> dict[Place, tuple[str, ...]]:
    """The moves to every place that the player reaches without a push."""
    walks: dict[Place, tuple[str, ...]] = {player: ()}
    queue = deque([player])
    while queue:
        place = queue.popleft()
        for name, (dr, dc) in MOVES.items():
            beside = (place[0] + dr, place[1] + dc)
            if beside not in walks and beside not in boxes and problem.is_floor(beside):
                walks[beside] = (*walks[place], name)
                queue.append(beside)
    return walks


def _push_distances(problem: Puzzle) -> dict[Place, int]:
    """Pushes that a box alone on the floor needs to its nearest goal; a place that is missing has no way to any."""
    distances = dict.fromkeys(problem.goals, 0)
    queue = deque(sorted(problem.goals))
    while queue:
        box = queue.popleft()
        for dr, dc in MOVES.values():
            before, player = (box[0] - dr, box[1] - dc), (box[0] - 2 * dr, box[1] - 2 * dc)
            if before not in distances and problem.is_floor(before) and problem.is_floor(player):
                distances[before] = distances[box] + 1
                queue.append(before)
    return distances


def generate(seed: int | str, pulls: int = 40) -> Puzzle:
    """A puzzle that `solve` solves in at most 100 moves, by pulling boxes away from their goals.

    Args:
        seed: the same seed, the same puzzle.
        pulls: how long the boxes are pulled about: more make longer solutions.
    """
    rng = random.Random(seed)
    while True:
        candidate = _draw(rng, pulls)
        if candidate is not None:
            moves = solve(candidate)
            if moves is not None and len(moves) <= LONGEST:
                return candidate


def _draw(rng: random.Random, pulls: int) -> Puzzle | None:
    inner = [(row, column) for row in range(1, SIDE - 1) for column in range(1, SIDE - 1)]
    floor = {place for place in inner if rng.random() < 0.75}
    goals = frozenset(rng.sample(sorted(floor), BOXES))
    player, boxes = rng.choice(sorted(floor - goals)), set(goals)
    for _ in range(pulls * BOXES):
        dr, dc = rng.choice(tuple(MOVES.values()))
        ahead, behind = (player[0] + dr, player[1] + dc), (player[0] - dr, player[1] - dc)
        if ahead not in floor or ahead in boxes:
            continue
        if behind in boxes:
            boxes = boxes - {behind} | {player}
        player = ahead
    if boxes & goals or player in goals:  # the notation has no character for one on the other
        return None
    characters = dict.fromkeys(floor, " ") | dict.fromkeys(goals, ".") | dict.fromkeys(boxes, "$") | {player: "@"}
    return puzzle(tuple("".join(characters.get((row, column), "#") for column in range(SIDE)) for row in range(SIDE)))
