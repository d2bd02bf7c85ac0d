"""What the Prefect page of a flow run shows: its name, progress, pictures, tables and links.

The learning curve of a run in progress and its progress bar are updated in place; everything else is posted once.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.runtime import flow_run

from pipelines.core import tables
from pipelines.tracking import runs
from vldac.config import Config

if TYPE_CHECKING:
    from pipelines.tracking.registry import Promotion, Registered


def name_run(name: str) -> None:
    """Gives the present flow run a name that says what it works on."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(flow_run.get_id()), name=name)


def progress(artifact: UUID | None, percent: float, description: str) -> UUID:
    """Makes the progress bar of a run, or moves it.

    Args:
        artifact: what an earlier call returned, None for the first.
        percent: 0 to 100.
        description: the line beside it.
    """
    if artifact is None:
        return cast(UUID, create_progress_artifact(percent, key="training", description=description))
    return cast(UUID, update_progress_artifact(artifact, percent, description=description))


def curve_so_far(artifact: UUID | None, png: bytes, description: str) -> UUID:
    """Shows the learning curve of a run in progress, in place of the one that `artifact` shows."""
    data = _data_url(png)
    if artifact is None:
        return cast(UUID, create_image_artifact(data, key="learning-curve", description=description))
    with get_client(sync_client=True) as client:
        client.update_artifact(artifact, ArtifactUpdate(data=data, description=description))
    return artifact


def picture(path: Path, key: str) -> None:
    """Shows a PNG, embedded: a page opened later, or elsewhere, cannot read this directory."""
    if path.exists():
        create_image_artifact(_data_url(path.read_bytes()), key=key, description=path.name)


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Shows a table, one mapping of column to value a row."""
    create_table_artifact(key=key, table=[dict(row) for row in rows], description=description)


def comparison(summary: Mapping[str, Any], *, acts: str) -> list[dict[str, str]]:
    """The rows of an evaluation: random policy, base model, trained model."""
    columns = ("policy", *tables.COLUMNS[1:])
    return [dict(zip(columns, row, strict=True)) for row in tables.rows(summary, acts=acts)]


def mlflow_page(uri: str, *parts: str) -> str | None:
    """The address of a page of an MLflow server, None for a database without a server.

    Args:
        uri: of the tracking server.
        parts: of the page, such as "models", name, "versions", number.
    """
    if urlsplit(uri).scheme not in {"http", "https"}:
        return None
    address = "/".join([f"{runs.without_credentials(uri).rstrip('/')}/#", *parts])
    return f"{address}?{runs.TRAINING_PAGES}"


def version_page(uri: str, registered: Registered) -> str | None:
    """The address of a registered version."""
    return mlflow_page(uri, "models", registered.name, "versions", registered.version)


def link(key: str, address: str | None, text: str) -> None:
    """Shows a link, nothing where there is no address."""
    if address is not None:
        create_link_artifact(address, link_text=text, key=key, description=text)


def run_report(
    root: Path,
    config: Config,
    *,
    summary: Mapping[str, Any] | None,
    registered: Registered | None,
    promotion: Promotion | None,
    registry_error: str | None,
) -> None:
    """Everything that the page of a finished `train-pipeline` shows."""
    acts = tables.base_acts(config.model_dump())
    title = f"{config.env.id}, seed {config.seed}"
    uri = runs.tracking_uri(root)
    if summary is not None:
        table("comparison", comparison(summary, acts=acts), title)
    picture(root / "plots/learning_curve.png", "learning-curve")
    picture(root / "plots/filmstrip.png", "filmstrip")
    lines = [f"# {title}", ""]
    if summary is not None:
        lines += [tables.markdown(summary, acts=acts), ""]
    if registered is not None:
        page = version_page(uri, registered)
        link("registered-version", page, f"{registered.name} version {registered.version}")
        address = f"`models:/{registered.name}/{registered.version}` (@candidate)"
        lines.append(f"- registered: {address}" + (f", [its page]({page})" if page else ""))
    if promotion is not None:
        lines.append(f"- {_champion(promotion)} ({promotion.decision.reason})")
    if registry_error is not None:
        lines.append(f"- not registered: {registry_error}")
    lines.append(f"- MLflow: `{runs.without_credentials(uri)}`")
    create_markdown_artifact("\n".join(lines), key="report", description="What this run came to")


def _champion(promotion: Promotion) -> str:
    new = promotion.registered.version
    if promotion.decision.promote and promotion.champion != new:
        return f"version {new} would become champion; promote-model asks a person"
    return "no champion" if promotion.champion is None else f"champion: version {promotion.champion}"


def markdown(key: str, text: str, description: str) -> None:
    """Shows a page of Markdown."""
    create_markdown_artifact(text, key=key, description=description)
