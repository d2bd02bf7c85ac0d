"""Links to the files of a base that lies outside the project, through which DVC sees when they change.

`model.base` may be a directory of this machine, of which models/base holds a name and a digest. The stage `base`
depends on `data/base`, where each of that directory's files has a link: DVC hashes what a link leads to. The folder is
no output of a stage, since DVC would copy the weights into its cache, and git keeps it empty.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from vldac.config import Config
from vldac.utils.files import model_files

DIRECTORY = "data/base"
_IGNORE = ".gitignore"


def link(root: Path, config: Config) -> None:
    """Brings the links of a project in line with `model.base`: none for the tiny model and for one of a hub."""
    folder, base = root / DIRECTORY, root / config.model.base
    wanted = {path.name: path.resolve() for path in model_files(base)} if base.is_dir() else {}
    if folder.is_dir() and (folder / _IGNORE).is_file():
        links = [path for path in folder.iterdir() if path.name != _IGNORE]
        if all(path.is_symlink() for path in links) and {path.name: path.readlink() for path in links} == wanted:
            return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _IGNORE).write_text(f"*\n!{_IGNORE}\n", encoding="utf-8")
    for name, path in wanted.items():
        (folder / name).symlink_to(path)
