"""Formulas of the point games: exact evaluation and solving, without `eval`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

_OPERATIONS = "+-*/"


class FormulaError(ValueError):
    """A list of symbols that is no formula, or divides by zero."""


def evaluate(symbols: Sequence[str]) -> Fraction:
    """The exact value of a formula, by recursive descent.

    Grammar: sum = product {("+" | "-") product}; product = factor {("*" | "/") factor};
    factor = ("+" | "-") factor | "(" sum ")" | number.

    Args:
        symbols: numbers, operators and parentheses, one each. Two numbers in a row do not make a longer number.

    Raises:
        FormulaError: see there.
    """
    value, end = _sum(symbols, 0)
    if end != len(symbols):
        raise FormulaError(f"{symbols[end]!r} is not expected here")
    return value


def _sum(symbols: Sequence[str], at: int) -> tuple[Fraction, int]:
    value, at = _product(symbols, at)
    while at < len(symbols) and symbols[at] in ("+", "-"):
        other, end = _product(symbols, at + 1)
        value, at = combine(value, symbols[at], other), end
    return value, at


def _product(symbols: Sequence[str], at: int) -> tuple[Fraction, int]:
    value, at = _factor(symbols, at)
    while at < len(symbols) and symbols[at] in ("*", "/"):
        other, end = _factor(symbols, at + 1)
        value, at = combine(value, symbols[at], other), end
    return value, at


def _factor(symbols: Sequence[str], at: int) -> tuple[Fraction, int]:
    if at >= len(symbols):
        raise FormulaError("the formula ends too early")
    symbol = symbols[at]
    if symbol in ("+", "-"):
        value, at = _factor(symbols, at + 1)
        return (value if symbol == "+" else -value), at
    if symbol == "(":
        value, at = _sum(symbols, at + 1)
        if at >= len(symbols) or symbols[at] != ")":
            raise FormulaError("a parenthesis is not closed")
        return value, at + 1
    if symbol.isdecimal() and symbol.isascii():
        return Fraction(int(symbol)), at + 1
    raise FormulaError(f"{symbol!r} is not expected here")


def combine(a: Fraction, operator: str, b: Fraction) -> Fraction:
    """One operation.

    Raises:
        FormulaError: division by zero.
    """
    if operator == "/":
        if b == 0:
            raise FormulaError("division by zero")
        return a / b
    return a + b if operator == "+" else a - b if operator == "-" else a * b


def solve(numbers: Sequence[int], target: int, operators: str = _OPERATIONS) -> list[str] | None:
    """A formula that uses every number once and has the value `target`, or None where there is none."""
    solution = _search([(Fraction(n), [str(n)]) for n in numbers], Fraction(target), operators)
    return solution[1:-1] if solution and solution[0] == "(" else solution


def solvable(numbers: Sequence[int], target: int) -> bool:
    """Whether some formula uses every number once and has the value `target`; remembered, as deals come again."""
    return _solvable(tuple(sorted(numbers)), target)


@lru_cache(maxsize=4096)  # four cards make 715 hands
def _solvable(numbers: tuple[int, ...], target: int) -> bool:
    return solve(numbers, target) is not None


def _search(terms: list[tuple[Fraction, list[str]]], target: Fraction, operators: str) -> list[str] | None:
    if len(terms) == 1:
        return terms[0][1] if terms[0][0] == target else None
    for i, (a, left) in enumerate(terms):
        for j, (b, right) in enumerate(terms):
            if i == j:
                continue
            rest = [term for k, term in enumerate(terms) if k not in (i, j)]
            for operator in operators:
                if (operator in "+*" and i > j) or (operator == "/" and b == 0):
                    continue
                term = (combine(a, operator, b), ["(", *left, operator, *right, ")"])
                if (solution := _search([*rest, term], target, operators)) is not None:
                    return solution
    return None
