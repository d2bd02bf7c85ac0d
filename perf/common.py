"""What the commands of `vldac perf` share: options, the model that is measured, the line about the machine."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vldac import warm_start
from vldac.config import Config


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """The command line of `vldac perf NAME`, with what names the configuration and the base model.

    Args:
        name: of the command.
        doc: of its module, whose first line describes it.
    """
    made = argparse.ArgumentParser(prog=f"vldac perf {name}", description=(doc or "").splitlines()[0])
    made.add_argument("--params", default="params.yaml")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value")
    made.add_argument("--base", type=Path, default=Path("models/base"))
    return made


def heading(device: torch.device, *facts: object) -> str:
    """A line about the machine, what is measured on it, and how busy it is, which rates depend on."""
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    libraries = f"{torch.get_num_threads()} threads, torch {torch.__version__}, {device}"
    return f"{machine}, {libraries}; {', '.join(map(str, facts))}; load {os.getloadavg()[0]:.1f}"


@contextmanager
def base_model(config: Config, directory: Path | None) -> Iterator[Path]:
    """The base model of a run, or an untrained one of the same shape: speed does not depend on what it knows."""
    if directory is not None and directory.exists():
        yield directory
        return
    with tempfile.TemporaryDirectory() as made:
        shape = config.model_copy(update={"warm_start": config.warm_start.model_copy(update={"updates": 0})})
        warm_start.run(shape, Path(made) / "base")
        yield Path(made) / "base"
