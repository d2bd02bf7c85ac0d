"""Prompt templates that a params file names by the path of a text file, and a configuration holds as text.

The text is what decides a run, wherever its file lies: it is part of a run's identity and goes with an exported policy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_MAX_BYTES = 2**16


class TemplateFileError(ValueError):
    """A file that holds no template; the message is one line."""


def template_file(values: dict[str, Any]) -> Path | None:
    """The file that `env.prompt_template` names, relative to the current directory; None where there is none.

    What holds a brace or a line break is a template; a path holds neither.

    Args:
        values: of a params file, its presets resolved.
    """
    env = values.get("env")
    name = env.get("prompt_template") if isinstance(env, dict) else None
    return Path(name) if isinstance(name, str) and not any(character in name for character in "{}\n") else None


def with_template(values: dict[str, Any]) -> dict[str, Any]:
    """Puts the text of a template in place of the path of its file, at `env.prompt_template`.

    Args:
        values: see `template_file`.

    Raises:
        TemplateFileError: there is no such file, or it is no text.
    """
    path = template_file(values)
    return values if path is None else {**values, "env": {**values["env"], "prompt_template": _read(path)}}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise TemplateFileError(f"env.prompt_template: {path} has more than {_MAX_BYTES} bytes")
        return data.decode("utf-8").strip()
    except OSError as error:
        raise TemplateFileError(
            f"env.prompt_template: {path}: {error.strerror}; name a text file, as seen from the current directory"
        ) from None
    except UnicodeDecodeError:
        raise TemplateFileError(f"env.prompt_template: {path} is not a text in UTF-8") from None
