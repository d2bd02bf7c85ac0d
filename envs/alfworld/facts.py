"""What holds in a game: ground facts by predicate, and conjunctive queries over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

#: (predicate, variables), all of which have to hold.
Query = Sequence[tuple[str, tuple[str, ...]]]


class Facts:
    """A set of facts that can be changed.

    Args:
        facts: (predicate, *arguments) each.
    """

    def __init__(self, facts: Iterable[tuple[str, ...]] = ()) -> None:
        self._facts: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
        self._sorted: dict[str, list[tuple[str, ...]]] = {}
        for predicate, *arguments in facts:
            self._facts[predicate].add(tuple(arguments))

    def add(self, predicate: str, arguments: tuple[str, ...]) -> None:
        """Makes a fact hold, and its negation, whose predicate begins with "not_", hold no more."""
        negation = predicate.removeprefix("not_") if predicate.startswith("not_") else f"not_{predicate}"
        self._facts[negation].discard(arguments)
        self._facts[predicate].add(arguments)
        self._sorted.pop(predicate, None)
        self._sorted.pop(negation, None)

    def __contains__(self, fact: tuple[str, ...]) -> bool:
        return fact[1:] in self._facts.get(fact[0], ())

    def of(self, predicate: str) -> list[tuple[str, ...]]:
        """The arguments of every fact of a predicate, sorted."""
        if predicate not in self._sorted:
            self._sorted[predicate] = sorted(self._facts.get(predicate, ()))
        return self._sorted[predicate]

    def matches(self, query: Query, bindings: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Every way to bind the variables of a query so that all of it holds, in the order of the sorted facts.

        Different variables stand for different things, as in `textworld.logic.State.all_assignments`.

        Args:
            query: see `Query`.
            bindings: of variables that are bound already.
        """
        if not query:
            yield dict(bindings)
            return
        (predicate, variables), *rest = query
        known = tuple(bindings.get(variable) for variable in variables)
        if None not in known:  # nothing to search
            if known in self._facts.get(predicate, ()):
                yield from self.matches(rest, bindings)
            return
        for arguments in self.of(predicate):
            extended = _unified(variables, arguments, known, bindings)
            if extended is not None:
                yield from self.matches(rest, extended)


def _unified(
    variables: tuple[str, ...],
    arguments: tuple[str, ...],
    known: tuple[str | None, ...],
    bindings: Mapping[str, str],
) -> dict[str, str] | None:
    """The bindings with those of a fact's arguments, or None where they disagree."""
    if any(bound is not None and bound != argument for bound, argument in zip(known, arguments, strict=True)):
        return None
    extended = dict(bindings)
    for variable, argument in zip(variables, arguments, strict=True):
        if extended.get(variable) != argument:
            if variable in extended or argument in extended.values():
                return None
            extended[variable] = argument
    return extended
