"""Puts into the wheel what lies at the top of the repository and is needed away from it; all else is in pyproject.toml.

The presets and the files that `vldac new` starts a project from become vldac/project/, where
`vldac.config.presets.template` finds them.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PROJECT = ("conf", "params.yaml", "dvc.yaml", "prefect.yaml", ".gitignore", ".dvcignore")


class BuildWithProject(build_py):
    """Builds the packages, and vldac/project/ beside them."""

    def run(self) -> None:
        """Copies the files, except into an editable installation, which reads them where they are."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "vldac" / "project"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in PROJECT:
            if Path(name).is_dir():
                shutil.copytree(name, target / name)
            else:
                shutil.copy(name, target / name)


setup(cmdclass={"build_py": BuildWithProject})
