"""Runs a game: fast-downward applies the rules, the grammar puts them into words.

What a game says and accepts is what `textworld.envs.PddlEnv` under `alfworld`'s `AlfredDemangler` says and accepts,
character by character. That class translates the problem twice and derives every command anew at each step; here a
translation is kept, and the planner, which the second one is for, is left out.
"""

from __future__ import annotations

import weakref
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import fast_downward
from alfworld.agents.utils.misc import Demangler
from textworld.envs.pddl.logic import GameLogic

from envs.alfworld.facts import Facts
from envs.alfworld.game import PLACEHOLDER, Game
from envs.alfworld.grammar import Entity, Grammar
from envs.alfworld.translation import Translation, translate

#: What the game answers to a command that it does not accept, as `PddlEnv.step`.
REFUSAL = "Nothing happens."

#: Copies of fast-downward, of which each runs one game, that no engine uses now. They are never unloaded: all copies
#: register their parts in one table, which the process clears at its end.
_idle_libraries: list[Any] = []


class _Operator(NamedTuple):
    """An applicable action."""

    id: int
    action: str
    effects: int
    bindings: dict[str, str]


class Engine:
    """One game at a time, from its start to its end.

    Attributes:
        facts: what holds now.
        entities: everything that has a name, by its id in the problem.
        feedback: what the game answered to the last command, or its introduction.
        commands: what it accepts now, sorted.
        won: whether the goal holds.
    """

    def __init__(self) -> None:
        self._library: Any = _idle_libraries.pop() if _idle_libraries else fast_downward.load_lib()
        self._finalizer = weakref.finalize(self, _release, self._library)
        self._finalizer.atexit = False
        self.facts = Facts()
        self.entities: dict[str, Entity] = {}
        self.feedback = ""
        self.commands: tuple[str, ...] = ()
        self.won = False

    def start(self, game: Game) -> None:
        """Begins a game.

        Raises:
            SimulatorError: its translation cannot be kept.
            RuntimeError: the engine has been closed.
        """
        if not self._finalizer.alive:
            raise RuntimeError("the game has been closed")
        self._translation: Translation = translate(game.domain, game.problem)
        self._templates, self._feedback, self._grammar = _logic(game.grammar)
        self._library.load_sas(self._translation.sas.encode())
        self.facts = Facts(self._translation.facts)
        self.entities = _entities(self._translation)
        introduction = self._grammar.derive("#intro#", self.facts, {}, self.entities)
        self.feedback = introduction.replace(PLACEHOLDER, game.text)
        self._observe()

    def step(self, command: str) -> None:
        """Carries out a command of `commands`; anything else changes nothing and is answered by `REFUSAL`."""
        operator = self._operators.get(command)
        if operator is None:
            self.feedback = REFUSAL
            return
        effects = (fast_downward.Atom * operator.effects)()
        self._library.apply_operator(operator.id, effects)
        for effect in effects:
            self.facts.add(*_fact(effect.name))
        self.feedback = self._grammar.derive(
            self._feedback[operator.action], self.facts, operator.bindings, self.entities
        )
        self._observe()

    def close(self) -> None:
        """Frees the game; closing twice is allowed."""
        self._finalizer()

    def _observe(self) -> None:
        self.won = bool(self._library.check_goal())
        operators = (fast_downward.Operator * self._library.get_applicable_operators_count())()
        self._library.get_applicable_operators(operators)
        self._operators: dict[str, _Operator] = {}
        for operator in operators:
            action, *arguments = operator.name.split()
            # The translator appends the variables of "exists" to the parameters; an operator's name leaves them out.
            bindings = dict(zip(self._translation.parameters[action], arguments, strict=False))
            command = self._grammar.derive(self._templates[action], self.facts, bindings, self.entities)
            self._operators.setdefault(command, _Operator(operator.id, action, operator.nb_effect_atoms, bindings))
        self.commands = tuple(sorted(self._operators))


def _release(library: Any) -> None:
    library.cleanup()
    _idle_libraries.append(library)


def _entities(translation: Translation) -> dict[str, Entity]:
    """Everything that some fact names, under the names that `AlfredDemangler` gives."""
    ids = sorted({argument for fact in translation.facts for argument in fact[1:]})
    names = Demangler(game_infos={id_: SimpleNamespace(id=id_) for id_ in ids})
    return {id_: Entity(id_, names.demangle_alfred_name(id_)) for id_ in ids}


def _fact(effect: str) -> tuple[str, tuple[str, ...]]:
    """Predicate and arguments of an effect, such as "NegatedAtom holds(agent1, mug_bar_1)"."""
    kind, _, fact = effect.partition(" ")
    predicate, _, arguments = fact.removesuffix(")").partition("(")
    return ("not_" if kind == "NegatedAtom" else "") + predicate, tuple(arguments.split(", ")) if arguments else ()


@lru_cache(maxsize=4)
def _logic(grammar: str) -> tuple[dict[str, str], dict[str, str], Grammar]:
    """Of each action its template and the symbol of its feedback, and the grammar; parsing them takes 0.1 s."""
    logic = GameLogic(domain="", grammar=grammar)
    templates = {name: action.template for name, action in logic.actions.items()}
    feedback = {name: action.feedback_rule for name, action in logic.actions.items()}
    return templates, feedback, Grammar(logic.grammar._rules)
