"""Prefect's history in `.local/prefect`: flow runs that ended long ago, removed by Prefect's own cleaner.

A Prefect server on a database of its own removes them itself: `PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED` and
`PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD` in its environment.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines.core.errors import PipelineError, explain
from pipelines.core.garbage import Item
from pipelines.core.project import home

#: The shortest time for which Prefect lets its cleaner keep a run.
SHORTEST = 3600.0
#: Of `prefect.server.services.db_vacuum`, whose condition this is.
_OLD = """SELECT count(*), min(end_time) FROM flow_run WHERE parent_task_run_id IS NULL AND end_time < ?
    AND state_type IN ('COMPLETED', 'FAILED', 'CANCELLED', 'CRASHED')"""


def history(root: Path, older_than: float) -> Iterator[Item]:
    """The flow runs that ended so many seconds ago, as one item, if there are any.

    Raises:
        PipelineError: the history is of another version of Prefect.
    """
    database, limit = database_of(root), max(older_than, SHORTEST)
    if not database.exists():
        return
    before = datetime.fromtimestamp(time.time() - limit, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            count, oldest = connection.execute(_OLD, (before,)).fetchone()
    except sqlite3.Error as error:
        raise PipelineError(
            f"{database} cannot be read ({error}); start `vldac serve` once, which brings it up to date"
        ) from None
    if count:
        age = time.time() - datetime.fromisoformat(oldest).replace(tzinfo=UTC).timestamp()
        noun = "flow run" if count == 1 else "flow runs"
        reason = "ended long ago, with their logs, states and artifacts; the oldest is this old"
        yield Item("Prefect", f"{count} {noun}", 0, age, reason, lambda: asyncio.run(_vacuum(database, limit)))


def database_of(root: Path) -> Path:
    """The file that runs without a server and `vldac serve` share."""
    return home(root) / "prefect/prefect.db"


async def _vacuum(database: Path, limit: float) -> None:
    """Runs Prefect's cleaner on this file, whichever database the environment names; servers that use it see that."""
    import sqlalchemy as sa  # noqa: PLC0415  # these take seconds to import
    from prefect import settings  # noqa: PLC0415
    from prefect.server.database import provide_database_interface  # noqa: PLC0415
    from prefect.server.database.dependencies import temporary_database_interface  # noqa: PLC0415
    from prefect.server.services import db_vacuum  # noqa: PLC0415

    values = {
        settings.PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{database}",
        settings.PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD: timedelta(seconds=limit),
    }
    with settings.temporary_settings(values), temporary_database_interface():
        db = provide_database_interface()
        try:
            await db_vacuum.vacuum_old_flow_runs(db=db)
            await db_vacuum.vacuum_stale_artifact_collections(db=db)
            await (await db.engine()).dispose()
        except sa.exc.SQLAlchemyError as error:
            raise PipelineError(f"Prefect's history cannot be changed: {explain(error)}; run this again") from None
