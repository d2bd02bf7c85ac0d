"""Dockerfile, .dockerignore and compose.yaml, as far as they can be held without an engine."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipelines.conftest import REPOSITORY

COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def test_the_image_is_pinned_runs_as_its_own_user_and_says_how_it_is() -> None:
    last_stage = instructions()[max(i for i, (name, _) in enumerate(instructions()) if name == "FROM") :]
    names = [name for name, _ in last_stage]
    assert dict(last_stage)["USER"] == "vldac"
    assert names.index("USER") < names.index("CMD")
    assert "HEALTHCHECK" in names
    (image,) = [rest for name, rest in instructions() if name == "ARG" and rest.startswith("PYTHON_IMAGE")]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.11\.\d+-slim-bookworm", image)
    (install,) = [rest for name, rest in instructions() if name == "RUN" and "pip install" in rest]
    assert "-c constraints.txt" in install
    (index,) = [rest for name, rest in instructions() if name == "ARG" and rest.startswith("TORCH_INDEX")]
    assert index == "TORCH_INDEX="  # no package index is named but by who builds


def test_a_machine_and_the_image_get_what_the_benchmarks_need_and_keep_their_gymnasium() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {extra: {re.split(r"[<>=\[]", need)[0] for need in needs} for extra, needs in extras.items()}
    assert {"minigrid", "crafter", "av"} <= names["benchmarks"]
    assert not any({"nle", "minihack"} & needs for needs in names.values())  # they pin another gymnasium
    assert "scripts/packages $(PYTHON) benchmarks\n" in (REPOSITORY / "Makefile").read_text()
    assert "-e '.[server,benchmarks]'" in DOCKERFILE
    for installs in (DOCKERFILE, (REPOSITORY / "scripts/packages").read_text()):
        assert "--no-deps nle minihack" in installs


def test_the_image_leaves_out_nothing_that_git_tracks_but_caches() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    patterns = [
        line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    roots = {pattern for pattern in patterns if "*" not in pattern}
    hidden = [path for path in tracked.splitlines() if any(path == r or path.startswith(f"{r}/") for r in roots)]
    assert hidden == []
    assert {".venv", ".local", ".env", "models", "runs"} <= roots
    assert ".git" not in roots


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_named_by_a_version_and_pages_are_for_this_machine(name: str) -> None:
    service = SERVICES[name]
    image = service["image"]
    assert image.startswith("vldac:") or re.search(r":[A-Z]*\.?\d", image), image
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), port
    assert service.get("restart") in {"unless-stopped", "on-failure"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_secrets_come_from_the_environment_and_must_be_set(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|AUTH_STRING|CONNECTION_URL|STORE_URI|MC_HOST", key):
            assert re.search(r"\$\{\w+:\?set ", str(value)), key
    assert not re.search(r"password\s*[:=]\s*\w", yaml.safe_dump(SERVICES[name].get("command", "")), re.IGNORECASE)


def test_what_a_service_waits_for_exists_and_can_be_waited_for() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], (name, other)
    mounted = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])}
    assert {m for m in mounted if not m.startswith(".")} == set(COMPOSE["volumes"])
    assert all((REPOSITORY / m).exists() for m in mounted if m.startswith("."))


def test_mlflow_has_a_user_of_its_own_in_the_store_and_no_more_than_its_bucket() -> None:
    root, store = SERVICES["store"]["environment"]["MINIO_ROOT_USER"], SERVICES["mlflow"]["environment"]
    assert store["AWS_ACCESS_KEY_ID"] not in {root, "root"}
    password = SERVICES["store"]["environment"]["MINIO_ROOT_PASSWORD"]
    others = [service for name, service in SERVICES.items() if name not in {"store", "bucket"}]
    assert not [service for service in others if password in service.get("environment", {}).values()]
    (script,) = SERVICES["bucket"]["command"]
    assert f"printf '%s\\n' {store['AWS_ACCESS_KEY_ID']} " in script  # by a pipe: not in the list of processes
    assert f"--user {store['AWS_ACCESS_KEY_ID']}" in script
    assert SERVICES["bucket"]["environment"]["S3_PASSWORD"] == store["AWS_SECRET_ACCESS_KEY"]
    policy = json.loads((REPOSITORY / "deploy/bucket_policy.json").read_text())
    for statement in policy["Statement"]:
        assert all(resource.startswith("arn:aws:s3:::mlflow") for resource in statement["Resource"])
        assert not [action for action in statement["Action"] if "*" in action]
    assert "--artifacts-destination=s3://mlflow" in SERVICES["mlflow"]["command"]


def test_what_the_store_s_service_runs_is_a_shell_script_that_may_run_twice(tmp_path: Path) -> None:
    (script,) = SERVICES["bucket"]["command"]
    mc = tmp_path / "mc"
    mc.write_text(
        '#!/bin/sh\necho "$*" >> calls\n'
        'case "$*" in "admin user add store") cat > keys;;\n'
        "  *attach*) cat answer; [ ! -s answer ];; esac\n"
    )
    mc.chmod(0o755)
    for answer, code in (("", 0), ("mc: The specified policy change is already in effect.", 0), ("mc: denied", 1)):
        (tmp_path / "answer").write_text(answer)
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "S3_PASSWORD": "secret word"}
        command = [*SERVICES["bucket"]["entrypoint"], script.replace("$$", "$")]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert (tmp_path / "keys").read_text() == "mlflow\nsecret word\n"
    assert "secret" not in (tmp_path / "calls").read_text()


def test_the_servers_of_compose_are_commands_of_the_image_with_passwords() -> None:
    assert SERVICES["prefect"]["command"][:3] == ["python", "-m", "pipelines.orchestration.prefect_server"]
    assert SERVICES["prefect"]["environment"]["VLDAC_ALLOWED_HOSTS"] == "prefect"  # as the worker calls it
    assert SERVICES["worker"]["environment"]["PREFECT_API_URL"].startswith("http://prefect:")
    assert "PREFECT_SERVER_API_AUTH_STRING" in SERVICES["prefect"]["environment"]
    assert "--app-name=basic-auth" in SERVICES["mlflow"]["command"]
    assert SERVICES["worker"]["image"] == SERVICES["mlflow"]["image"] == SERVICES["prefect"]["image"]
