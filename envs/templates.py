"""Prompts as texts with placeholders: what a user writes in place of an environment's own prompt.

    {instruction}
    You may {actions}. Answer with {answer_format}

A template is data: a placeholder is a bare name of `PLACEHOLDERS`, nothing is looked up in an object or formatted, and
what a world says is put in as it is, with no placeholder in it read again.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from string import Formatter

from envs.base import MAX_PROMPT_CHARACTERS, UnsuitableEnvError

#: Placeholders and what they stand for.
PLACEHOLDERS: Mapping[str, str] = {
    "instruction": "the task in words, as the environment's full or terse prompt has it",
    "state": "what the world says in words now; nothing where the pictures say all of it",
    "actions": "the accepted actions, separated by commas",
    "answer_format": "the JSON object that is asked for",
    "frames": "how many pictures are shown; they stand before the text",
    "prompt": "the environment's own prompt, whole",
}
#: Characters of a template.
MOST_CHARACTERS = 4096
_KNOWN = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
_MOST_ACTIONS = 2600
_CUT = " ..."


class TemplateError(UnsuitableEnvError):
    """A template that cannot be used; the message is one line."""


class Template:
    """A prompt with placeholders.

    Args:
        text: of the template; `{{` and `}}` stand for braces.

    Attributes:
        names: of the placeholders in it.

    Raises:
        TemplateError: it holds anything but text and known placeholders.
    """

    def __init__(self, text: str) -> None:
        if not text.strip():
            raise TemplateError("the prompt template is empty")
        if len(text) > MOST_CHARACTERS:
            raise TemplateError(f"the prompt template has {len(text)} characters; it may have {MOST_CHARACTERS}")
        try:
            self._parts = list(Formatter().parse(text))
        except ValueError as error:
            raise TemplateError(f"the prompt template: {error}; write {{{{ and }}}} for braces") from None
        for _, name, form, conversion in self._parts:
            if name is not None:
                _check(name, bool(form or conversion))
        self.names = frozenset(name for _, name, _, _ in self._parts if name is not None)
        if not self.names:  # a configuration tells texts from paths by their braces, too
            raise TemplateError(f"the prompt template holds no placeholder; they are {_KNOWN}")

    def format(self, values: Mapping[str, str]) -> str:
        """The prompt; where it would be longer than a prompt may be, `state` is cut at its end.

        Args:
            values: of all placeholders.

        Raises:
            TemplateError: it is too long without any state, too.
        """
        text = self._join(values)
        if (excess := len(text) - MAX_PROMPT_CHARACTERS) > 0:
            times = sum(name == "state" for _, name, _, _ in self._parts)
            kept = len(values["state"]) - len(_CUT) - -(-excess // max(times, 1))
            if not times or kept < 0:
                raise TemplateError(
                    f"the prompt template makes a prompt of {len(text)} characters; one may have "
                    f"{MAX_PROMPT_CHARACTERS}, so leave something out of it"
                )
            text = self._join({**values, "state": values["state"][:kept] + _CUT})
        return text

    def _join(self, values: Mapping[str, str]) -> str:
        return "".join(literal + ("" if name is None else values[name]) for literal, name, _, _ in self._parts)


def _check(name: str, formatted: bool) -> None:
    if name not in PLACEHOLDERS:
        near = difflib.get_close_matches(name, PLACEHOLDERS, n=1, cutoff=0.5)
        hint = f"did you mean {{{near[0]}}}?" if near else f"the placeholders are {_KNOWN}; write {{{{ for a brace"
        raise TemplateError(f"the prompt template has an unknown placeholder {{{name[:40]}}}; {hint}")
    if formatted:
        raise TemplateError(f"the prompt template formats {{{name}}}; a placeholder is its name alone")


def list_actions(names: Sequence[str], more: str = "more") -> str:
    """Actions separated by commas; of more than can be told, whole ones and how many `more` there are."""
    listed = ", ".join(names)
    if len(listed) <= _MOST_ACTIONS:
        return listed
    kept, length = 0, 0
    while (length := length + len(names[kept]) + 2) <= _MOST_ACTIONS:
        kept += 1
    return f"{', '.join(names[:kept])} and {len(names) - kept} {more}"
