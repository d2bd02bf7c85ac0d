"""Each module has tests that bear its name or that of its folder, or a line here that says where they are."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("vldac", "envs", "benchmarks", "pipelines")
#: Modules whose tests have another name: where they are, from tests/.
ELSEWHERE = {
    "vldac/acting.py": "vldac/engines/test_engines.py",
    "vldac/critic.py": "vldac/test_vldac_learner.py",
    "vldac/distributed.py": "vldac/test_vldac_train.py",
    "vldac/early_warnings.py": "vldac/test_vldac_episodes.py",
    "vldac/observations.py": "pipelines/tracking/test_tracking_pyfunc_model.py",
    "vldac/run_log.py": "vldac/test_vldac_train.py",
    "vldac/evaluation/study/cells.py": "pipelines/evaluation/test_evaluation_studies.py",
    "vldac/evaluation/study/figures.py": "vldac/evaluation/test_evaluation_study_report.py",
    "envs/base.py": "envs/test_env_registry.py",
    "envs/seeds.py": "envs/test_vector.py",
    "pipelines/commands/new.py": "test_packaging.py",
}
#: Folders of which the tests are named after the folder, or after what a module makes.
FOLDERS = frozenset(
    (
        *(
            "adapter",
            "openenv",
            "alfworld",
            "gym_cards",
            "webshop",
            "miniworld",
            "pictures",
            "vector",
            "balrog",
            "nethack",
            "choice_sets",
        ),
        *("understanding", "visual_web_bench", "vsi_bench", "report", "lmms_eval", "harness", "algorithms", "engines"),
        *("models", "config", "evaluation", "play", "core", "tracking", "stages", "orchestration", "commands"),
    )
)


def test_each_module_has_its_tests() -> None:
    stems = [path.stem.removeprefix("test_") for path in (REPOSITORY / "tests").rglob("test_*.py")]
    without = []
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            name = path.relative_to(REPOSITORY).as_posix()
            if path.stem in ("__init__", "__main__") or name in ELSEWHERE:
                continue
            words = [path.stem, *([path.parent.name.removesuffix("_bench")] if path.parent.name in FOLDERS else [])]
            if not any(f"_{word}_" in f"_{stem}_" for word in words for stem in stems):
                without.append(name)
    assert without == []


def test_what_is_said_to_be_elsewhere_is_there() -> None:
    for module, test in ELSEWHERE.items():
        assert (REPOSITORY / module).exists(), module
        assert (REPOSITORY / "tests" / test).exists(), test
        used = module.removesuffix(".py").replace("/", ".")
        assert used.rpartition(".")[2] in (REPOSITORY / "tests" / test).read_text(), f"{test} does not name {used}"
