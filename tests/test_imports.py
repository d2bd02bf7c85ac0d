"""Imports run one way: pipelines, then benchmarks, then vldac, then the interface of envs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PIPELINE = {"pipelines", "prefect", "mlflow", "dvc"}
MODEL = {"torch", "transformers", "deepspeed", "peft", "safetensors", "tokenizers"}
FORBIDDEN = {
    "envs": PIPELINE | MODEL | {"vldac", "benchmarks"},
    "vldac": PIPELINE | {"benchmarks"},
    "benchmarks": PIPELINE,
}
#: The interface of the simulators; everything else in envs is one of them, or how they are run.
INTERFACE = {"envs.base", "envs.registry", "envs.templates", "envs.vector"}


def imported(source: str) -> set[str]:
    """Every module that a file imports anywhere, `from a import b` as both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            module = node.module or ""
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def files(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_imports_run_one_way(package: str) -> None:
    assert files(package)
    for path in files(package):
        roots = {module.partition(".")[0] for module in imported(path.read_text())}
        assert not roots & FORBIDDEN[package], path


@pytest.mark.parametrize("package", ["vldac", "benchmarks"])
def test_only_the_interface_of_the_simulators_is_imported(package: str) -> None:
    modules = {path.relative_to(REPOSITORY).with_suffix("").as_posix().replace("/", ".") for path in files("envs")}
    modules |= {module.removesuffix(".__init__") for module in modules}
    for path in files(package):
        used = imported(path.read_text()) & (modules - {"envs"})
        assert used <= INTERFACE, path


def test_the_rule_sees_every_form_of_import() -> None:
    source = "import a.b as c\nfrom d import e\ndef f():\n    from g.h import i\n"
    assert imported(source) == {"a.b", "d", "d.e", "g.h", "g.h.i"}


@pytest.mark.slow
def test_training_and_evaluation_need_no_pipeline_tools() -> None:
    code = (
        "import sys\n"
        "for name in ('prefect', 'mlflow', 'dvc', 'pipelines'):\n"
        "    sys.modules[name] = None\n"  # what makes any import of it fail
        "import vldac.train, vldac.warm_start, envs.vector, vldac.evaluation.episodes\n"
        "import vldac.evaluation.study.__main__\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_simulators_load_no_model_library() -> None:
    code = (
        "import sys\n"
        "import envs.vector, envs.vector.worker, envs.registry, envs.gym_cards\n"
        f"loaded = set({sorted(MODEL | PIPELINE | {'vldac', 'benchmarks'})}) & sys.modules.keys()\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


#: The packages of benchmarks, and which of the others each may import.
BENCHMARK_STOREYS = {"harness": set(), "suites": {"harness"}, "report": {"harness"}, "lmms_eval": {"harness"}}


@pytest.mark.parametrize("storey", sorted(BENCHMARK_STOREYS))
def test_suites_and_report_import_the_harness_which_imports_neither(storey: str) -> None:
    assert files(f"benchmarks/{storey}")
    assert {path.name for path in (REPOSITORY / "benchmarks").iterdir() if (path / "__init__.py").exists()} == set(
        BENCHMARK_STOREYS
    )
    for path in files(f"benchmarks/{storey}"):
        used = {module.split(".")[1] for module in imported(path.read_text()) if module.startswith("benchmarks.")}
        assert used <= BENCHMARK_STOREYS[storey] | {storey}, path


def test_no_suite_imports_another() -> None:
    suites = {path.relative_to(REPOSITORY / "benchmarks/suites").parts[0] for path in files("benchmarks/suites")}
    for path in files("benchmarks/suites"):
        own = path.relative_to(REPOSITORY / "benchmarks/suites").parts[0]
        used = {
            module.split(".")[2] for module in imported(path.read_text()) if module.startswith("benchmarks.suites.")
        }
        assert used & suites <= {own}, path


#: The storeys of pipelines, lowest first: a module imports from its own and from those below it.
STOREYS = ("core", "tracking", "stages", "evaluation", "orchestration", "commands")
#: What a storey leaves to those above it. Prefect belongs to orchestration and to the commands that start it.
LEFT_ALONE = {
    "core": {"mlflow", "prefect", "dvc"},
    "tracking": {"prefect", "dvc"},
    "stages": {"mlflow", "prefect", "dvc"},
    "evaluation": {"prefect", "dvc"},
}


def upward_imports(sources: dict[str, str]) -> list[str]:
    """Every import of a module of pipelines from a storey above its own, or of a package that its storey leaves alone.

    Args:
        sources: text by dotted name, such as pipelines.core.project.
    """
    found = []
    for name, source in sources.items():
        storey = name.split(".")[1]
        above = STOREYS[STOREYS.index(storey) + 1 :]
        for module in sorted(imported(source)):
            package, _, rest = module.partition(".")
            if package == "pipelines" and rest.partition(".")[0] in above:
                found.append(f"{name} imports {module}")
            if package in LEFT_ALONE.get(storey, ()):
                found.append(f"{name} imports {module}")
    return found


def test_the_storeys_of_the_pipelines_import_downwards() -> None:
    paths = [path for path in files("pipelines") if path.parent != REPOSITORY / "pipelines"]
    assert {path.relative_to(REPOSITORY).parts[1] for path in paths} == set(STOREYS)
    names = {path: ".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in paths}
    assert upward_imports({names[path]: path.read_text() for path in paths}) == []


def test_an_import_of_a_higher_storey_is_found_in_whatever_form() -> None:
    planted = {
        "pipelines.core.a": "def f():\n    from pipelines.tracking import runs\n",
        "pipelines.tracking.b": "import pipelines.stages.train as t\nimport mlflow\n",
        "pipelines.stages.c": "from pipelines import commands\nfrom prefect import task\n",
        "pipelines.orchestration.d": "import prefect\nfrom pipelines.core import errors\n",
    }
    assert upward_imports(planted) == [
        "pipelines.core.a imports pipelines.tracking",
        "pipelines.core.a imports pipelines.tracking.runs",
        "pipelines.tracking.b imports pipelines.stages.train",
        "pipelines.stages.c imports pipelines.commands",
        "pipelines.stages.c imports prefect",
        "pipelines.stages.c imports prefect.task",
    ]
