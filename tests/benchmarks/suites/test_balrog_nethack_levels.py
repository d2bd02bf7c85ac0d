"""Sokoban puzzles, Boxoban's maps, and levels that compile."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.harness.task import BenchmarkDataError
from benchmarks.suites.balrog.nethack import boxoban, levels
from benchmarks.suites.balrog.nethack.sokoban import LONGEST, MOVES, Puzzle, PuzzleError, generate, puzzle, solve

HARD, MEDIUM = "MiniHack-Boxoban-Hard-v0", "MiniHack-Boxoban-Medium-v0"
EASY = ("#####", "#@$.#", "#####")


def play(problem: Puzzle, moves: list[str]) -> frozenset[tuple[int, int]]:
    """Where the boxes are after the moves, by the rules of Sokoban."""
    player, boxes = problem.player, set(problem.boxes)
    for move in moves:
        dr, dc = MOVES[move]
        ahead, beyond = (player[0] + dr, player[1] + dc), (player[0] + 2 * dr, player[1] + 2 * dc)
        assert problem.rows[ahead[0]][ahead[1]] != "#"
        if ahead in boxes:
            assert problem.rows[beyond[0]][beyond[1]] != "#"
            assert beyond not in boxes
            boxes = boxes - {ahead} | {beyond}
        player = ahead
    return frozenset(boxes)


def write_maps(folder: Path, *maps: tuple[str, ...], end: str = "\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join("".join(f"{line}\n" for line in (f"; {number}", *rows)) for number, rows in enumerate(maps))
    (folder / "000.txt").write_text(text + end)
    return folder


def corridor(length: int) -> tuple[str, ...]:
    """A puzzle that is told from others by its length."""
    return ("#" * length, "#@$" + " " * (length - 5) + ".#", "#" * length)


def test_a_puzzle_is_read_and_solved() -> None:
    problem = puzzle(EASY)
    assert (problem.player, problem.boxes, problem.goals) == ((1, 1), {(1, 2)}, {(1, 3)})
    assert solve(problem) == ["east"]
    assert solve(puzzle(("######", "#@ $.#", "######"))) == ["east", "east"]


def test_what_cannot_be_solved_is_not() -> None:
    assert solve(puzzle(("######", "#$@ .#", "######"))) is None  # the box is in a corner
    assert solve(puzzle(("#######", "#@#$ .#", "#######"))) is None  # the player does not get behind it


@pytest.mark.parametrize(
    "rows",
    [
        (),
        ("#####", "#@$.#", "####"),
        ("#####", "#@*.#", "#####"),
        ("#####", "# $.#", "#####"),
        ("#####", "#@@$.", "#####"),
        ("#####", "#@$ #", "#####"),
        ("#####", "#@  #", "#####"),
        ("#" * 77, "#@$." + " " * 72 + "#", "#" * 77),
    ],
)
def test_what_is_no_puzzle_is_refused(rows: tuple[str, ...]) -> None:
    with pytest.raises(PuzzleError, match="a puzzle has"):
        puzzle(rows)


def test_puzzles_made_here_are_solvable_and_the_same_for_a_seed() -> None:
    state = random.getstate()
    problems = [generate(f"test {number}", pulls=20) for number in range(6)]
    assert random.getstate() == state
    assert problems == [generate(f"test {number}", pulls=20) for number in range(6)]
    assert len({problem.rows for problem in problems}) == 6
    for problem in problems:
        assert [len(problem.rows), len(problem.rows[0]), len(problem.boxes)] == [10, 10, 4]
        moves = solve(problem)
        assert moves is not None
        assert 0 < len(moves) <= LONGEST
        assert play(problem, moves) == problem.goals


def test_without_maps_puzzles_are_made() -> None:
    assert boxoban.choose(MEDIUM, 3, None) == boxoban.choose(MEDIUM, 3, None)
    assert boxoban.choose(MEDIUM, 3, None) != boxoban.choose(MEDIUM, 4, None)


def test_published_maps_are_chosen_by_the_seed(tmp_path: Path) -> None:
    lengths = range(5, 25)
    write_maps(tmp_path / "hard", *map(corridor, lengths))
    for seed in range(10):
        # The rule of MiniHack's boxohack.py, with random seeded as BALROG's evaluator does.
        random.seed(seed)
        wanted = random.choice(lengths)
        assert len(boxoban.choose(HARD, seed, tmp_path).rows[0]) == wanted
    with pytest.raises(BenchmarkDataError, match=r"medium/train holds no Boxoban maps; download them"):
        boxoban.choose(MEDIUM, 0, tmp_path)


def test_a_map_that_no_empty_line_follows_does_not_count(tmp_path: Path) -> None:
    write_maps(tmp_path / "hard", corridor(5), corridor(6), end="")
    assert {len(boxoban.choose(HARD, seed, tmp_path).rows[0]) for seed in range(10)} == {5}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("; 0\n#####\n#@*.#\n#####\n\n", r"000.txt, map 1: a puzzle has no '\*'"),
        ("#####\n#@$.#\n#####\n\n", "000.txt, map 1: it does not begin with a line"),
        ("; 0\n#\xe4#\n\n", "000.txt is no file of Boxoban maps"),
    ],
)
def test_a_wrong_file_of_maps_is_refused(tmp_path: Path, text: str, cause: str) -> None:
    (tmp_path / "hard").mkdir()
    (tmp_path / "hard" / "000.txt").write_text(text, encoding="utf-8")
    with pytest.raises(BenchmarkDataError, match=cause):
        boxoban.choose(HARD, 0, tmp_path)


def test_a_boxoban_level_has_bars_boulders_and_fountains() -> None:
    lines = levels.boxoban(puzzle(("#####", "#@ .#", "# $ #", "#####"))).split("\n")
    assert lines[lines.index("MAP") + 1 : lines.index("ENDMAP")] == ["FFFFF", "F...F", "F...F", "FFFFF"]
    assert {'OBJECT: "boulder", (2, 2)', "FOUNTAIN: (3, 1)", "BRANCH:(1,1,1,1),(0,0,0,0)"} <= set(lines)
    assert "FLAGS:noteleport,premapped" in lines


def test_a_maze_is_a_block_of_stone_inside_a_wall() -> None:
    lines = levels.mazewalk(9).split("\n")
    assert lines[lines.index("MAP") + 1 : lines.index("ENDMAP")] == ["." * 11] * 11
    assert {"TERRAIN:rect (0,0,10,10),'-'", "TERRAIN:fillrect (1,1,9,9),' '", "MAZEWALK:(5,5),east"} <= set(lines)


def test_a_wrong_description_is_refused_in_one_line() -> None:
    with pytest.raises(levels.LevelError, match="lev_comp failed: ") as raised:
        levels.compiled("MAZE: nonsense")
    assert "\n" not in str(raised.value)
    assert levels.compiled(levels.mazewalk(9)) == levels.compiled.__wrapped__(levels.mazewalk(9))
