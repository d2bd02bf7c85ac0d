"""The import closure: every way of reaching a file, and no more than that."""

from __future__ import annotations

import ast
from importlib import metadata
from pathlib import Path

import pytest

from pipelines.core import sources
from pipelines.core.sources import SourceTree, versions

FILES = {
    "a/__init__.py": '"""Only a docstring."""\n',
    "a/start.py": "import os, numpy.linalg\nfrom b import one\ndef f():\n    from a import inside\n",
    "a/inside.py": "from . import near\nfrom .far import thing as other\n",
    "a/near.py": "",
    "a/far.py": "thing = 1\n",
    "a/unused.py": "import torch\n",
    "a/text.html": "<p>",
    "a/templates/page.html": "<p>",
    "b/__init__.py": "import c.by_package\n",
    "b/one.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import c.typed\nelse:\n    import c.untyped\n"
        "run(['-m', 'c.worker'])\nmake('Id-v0')\nprint('not a.unused, nor c.nothing')\n"
    ),
    "c/by_package.py": "",
    "c/typed.py": "",
    "c/untyped.py": "",
    "c/worker.py": "import c.plugins.find\n",
    "c/by_id.py": "import tqdm, PIL.Image\n",
    "c/plugins/find.py": "",
    "c/plugins/x/named.py": "import yaml\n",
    "d/neutral.py": "import a.unused\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(root: Path, *modules: str, without: tuple[str, ...] = ()) -> tuple[set[str], set[str]]:
    tree = SourceTree((root,), names={"Id-v0": "c.by_id"}, whole=("c.plugins",))
    found = tree.closure(modules, without)
    return {path.relative_to(root).as_posix() for path in found.files}, set(found.libraries)


def test_a_closure_follows_imports_names_ids_and_packages_and_not_what_only_a_type_checker_reads(root: Path) -> None:
    files, libraries = names(root, "a.start")
    left_out = {"a/__init__.py", "a/unused.py", "c/typed.py", "d/neutral.py"}
    assert files == FILES.keys() - left_out
    assert libraries == {"numpy", "tqdm", "PIL", "yaml"}


def test_a_folder_may_be_on_the_path_itself_or_be_imported_as_a_package_of_the_project(root: Path) -> None:
    for module in ("a.inside", "inside"):
        found = SourceTree((root, root / "a")).closure([module])
        assert "a/inside.py" in {path.relative_to(root).as_posix() for path in found.files}
    found = SourceTree((root, root / "a")).closure(["a.inside"])
    assert {"a/near.py", "a/far.py"} <= {path.relative_to(root).as_posix() for path in found.files}


def test_packages_that_lie_elsewhere_are_followed_and_their_neighbors_are_libraries(root: Path) -> None:
    (root / "project/own").mkdir(parents=True)
    (root / "project/own/start.py").write_text("import a.start\n")
    tree = SourceTree((root / "project",), places={"a": root})
    found = tree.closure(["own.start"])
    expected = {"own/start.py", "a/start.py", "a/inside.py", "a/near.py", "a/far.py", "a/text.html"}
    assert set(tree.manifest(found)["files"]) == expected | {"a/templates/page.html"}
    assert found.libraries == {"numpy", "b"}


def test_what_is_left_out_takes_along_what_only_it_imports(root: Path) -> None:
    files, _ = names(root, "a.start", "d.neutral", without=("d", "c.worker"))
    assert not {"d/neutral.py", "a/unused.py", "c/worker.py", "c/plugins/find.py"} & files
    files, _ = names(root, "a.start", "d.neutral")
    assert {"d/neutral.py", "a/unused.py"} <= files


def test_a_manifest_changes_when_a_file_of_its_closure_does_and_only_then(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = metadata.packages_distributions()
    monkeypatch.setattr(metadata, "packages_distributions", lambda: owners)  # which reads every package each time

    def manifest() -> object:
        tree = SourceTree((root,), names={"Id-v0": "c.by_id"}, whole=("c.plugins",))
        return tree.manifest(tree.closure(["a.start"]))

    before = manifest()
    for name in ("a/unused.py", "c/typed.py", "d/neutral.py", "a/__init__.py"):
        (root / name).write_text(FILES[name] + "# an edit\n")
        assert manifest() == before, name
    for name in ("a/near.py", "c/untyped.py", "c/plugins/x/named.py", "a/templates/page.html", "b/__init__.py"):
        (root / name).write_text(FILES[name] + "# an edit\n")
        after = manifest()
        assert after != before, name
        before = after
    (root / "a/__init__.py").write_text("import a.unused\n")
    assert "a/unused.py" in str(manifest())


def test_versions_are_those_of_what_decides_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = {"PIL": ["pillow"], "tqdm": ["tqdm"], "transformers": ["transformers"], "torch": ["torch"]}
    installed = {"pillow": "12.0", "tqdm": "4", "transformers": "5.1", "tokenizers": "0.22", "torch": "2.9+cpu"}

    def version(name: str) -> str:
        try:
            return installed[name]
        except KeyError:
            raise metadata.PackageNotFoundError(name) from None

    monkeypatch.setattr(metadata, "version", version)
    assert versions({"PIL", "tqdm", "transformers", "absent"}, owners) == {
        "pillow": "12.0",
        "tokenizers": "0.22",
        "transformers": "5.1",
    }
    assert versions({"torch"}, owners) == {"torch": "2.9+cpu"}
    installed["torch"] = "2.10+cpu"
    assert versions({"torch"}, owners) == {"torch": "2.10+cpu"}


def test_a_parser_that_another_thread_disturbs_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("import b\n")
    parse, failures = ast.parse, [SystemError("AST constructor recursion depth mismatch (before=102, after=74)")] * 2

    def disturbed(text: str, name: str) -> ast.Module:
        if failures:
            raise failures.pop()
        return parse(text, name)

    monkeypatch.setattr(sources.ast, "parse", disturbed)
    assert isinstance(sources._parse(tmp_path / "a.py").body[0], ast.Import)
    failures += [SystemError("always")] * 9
    with pytest.raises(SystemError, match="always"):
        sources._parse(tmp_path / "a.py")
