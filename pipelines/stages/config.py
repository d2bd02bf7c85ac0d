"""First half of stage `environment`: params.yaml with its presets resolved, which every other stage reads.

It also links the files of a base of one's own; see `base_files`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.harness import section
from pipelines.core import errors
from pipelines.stages import base_files
from pipelines.stages.common import arguments
from vldac.config import Config, load
from vldac.config.schema import read
from vldac.config.texts import template_file

#: What the other stages depend on, value by value.
RESOLVED = "config.yaml"
_HEADER = "# Written by `dvc repro` from params.yaml and the presets in conf/: change those.\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Writes config.yaml and data/base."""
    options = arguments(argv, __doc__, params=Path("params.yaml"))
    config = load(options.root / options.params)
    _require_watched(options.root, config, options.root / options.params)
    values = config.model_dump(mode="json")
    values["benchmarks"] = section.parse(config.benchmarks).model_dump(mode="json")
    path: Path = options.root / RESOLVED
    aside = path.with_name(f".{path.name}.writing")
    aside.write_text(_HEADER + yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    aside.replace(path)
    base_files.link(options.root, config)
    return 0


def _require_watched(root: Path, config: Config, params: Path) -> None:
    """Refuses a prompt template that lies where this stage does not depend on it."""
    values, _ = read(params)
    file = template_file(values)
    watched = [root / "conf", root / config.extensions]
    if file is not None and not any(file.resolve().is_relative_to(folder.resolve()) for folder in watched):
        raise errors.PipelineError(
            f"env.prompt_template: {file} lies outside of conf/ and `extensions` ({config.extensions}), so DVC would "
            "not see its changes; move it to conf/prompts/"
        )


if __name__ == "__main__":
    raise SystemExit(errors.run(main))
