"""Things of one kind by name, imported when they are used: algorithms, engines, model families."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from functools import cached_property
from importlib import metadata
from typing import Any

from vldac.utils.errors import UserError


class UnknownNameError(UserError, ValueError):
    """Nothing has this name, or what has it cannot be imported; the message is one line."""


class Registry:
    """Names and where they lead: "module:attribute".

    Installed packages add names by entry points, programs by `register`, and a name of the form "module:attribute"
    needs no registration at all.

    Args:
        kind: what is registered, in the singular, as error messages name it.
        builtin: the names that are always there.
        group: of the entry points by which installed packages add names.
    """

    def __init__(self, kind: str, builtin: Mapping[str, str], *, group: str) -> None:
        self.kind, self._own, self._group = kind, dict(builtin), group

    @cached_property
    def _installed(self) -> dict[str, str]:
        return {point.name: point.value for point in metadata.entry_points(group=self._group)}

    def register(self, name: str, entry_point: str) -> None:
        """Adds a name.

        Raises:
            ValueError: it leads somewhere else already.
        """
        if self._own.get(name, entry_point) != entry_point:
            raise ValueError(f"{self.kind} {name!r} is {self._own[name]} already")
        self._own[name] = entry_point

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted({*self._own, *self._installed}))

    def entry_point(self, name: str) -> str:
        """Where a name leads, without importing it.

        Raises:
            UnknownNameError: it leads nowhere; the message names the nearest ones.
        """
        if found := self._own.get(name) or self._installed.get(name):
            return found
        if ":" in name:
            return name
        near = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(self.names())}"
        raise UnknownNameError(f"unknown {self.kind} {name!r}; {hint}, or name your own as 'module:Class'")

    def load(self, name: str) -> Any:
        """What a name stands for.

        Raises:
            UnknownNameError: it leads nowhere, or not to something that can be imported.
        """
        module, _, attribute = self.entry_point(name).partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise UnknownNameError(
                f"{self.kind} {name!r} needs the module {error.name!r}, which cannot be found; install it, or put its "
                "folder on PYTHONPATH"
            ) from error
        except AttributeError:
            raise UnknownNameError(f"{self.kind} {name!r}: the module {module} has no {attribute!r}") from None
