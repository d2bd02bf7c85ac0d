"""Who is told of what: a run that failed or crashed, a new champion, one that does worse tonight, a question.

The flows only say what happened, as events. Automations on the server turn them into messages by notification blocks,
which the server keeps, encrypted, with their addresses and passwords; `VLDAC_NOTIFY` names them.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pipelines.core import errors

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import BlockDocument
    from prefect.events.schemas.automations import AutomationCore

#: Environment variable: blocks of the server as `type/name`, with commas, such as slack-webhook/team.
BLOCKS = "VLDAC_NOTIFY"
PROMOTED, WORSE, ASKED = "vldac.promoted", "vldac.worse", "vldac.asked"
FAILED_AUTOMATION = "vldac: tell of a run that failed or crashed"
MODEL_AUTOMATION = "vldac: tell of champions, and of candidates that wait for a person"
AUTOMATIONS = (FAILED_AUTOMATION, MODEL_AUTOMATION)
_BLOCK = re.compile(r"[a-z0-9-]+/[a-z0-9-]+")
_FAILED = (
    "{{ flow.name }}, run {{ flow_run.name }}: {{ flow_run.state.name }}. {{ flow_run.state.message }}\n"
    "{{ flow_run|ui_url }}"
)


def wanted() -> list[str] | None:
    """The blocks that `VLDAC_NOTIFY` names; none where it is empty, and None where it is not set.

    Raises:
        PipelineError: one is not of the form type/name.
    """
    if BLOCKS not in os.environ:
        return None
    names = [name.strip() for name in os.environ[BLOCKS].split(",") if name.strip()]
    if wrong := [name for name in names if not _BLOCK.fullmatch(name)]:
        raise errors.PipelineError(f"{BLOCKS} names {wrong[0]!r}; write TYPE/NAME, such as slack-webhook/team")
    return names


async def find(client: PrefectClient, name: str) -> BlockDocument | None:
    """The block of a server that is called `type/name`, without its secrets; None if there is none."""
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415  # seconds to import

    kind, _, own = name.partition("/")
    try:
        return await client.read_block_document_by_name(own, kind, include_secrets=False)
    except ObjectNotFound:
        return None


def automations(blocks: list[BlockDocument]) -> list[AutomationCore]:
    """The automations that send to these blocks."""
    from prefect.events.actions import SendNotification  # noqa: PLC0415  # seconds to import
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture  # noqa: PLC0415

    def on(name: str, events: set[str], subject: str, body: str) -> AutomationCore:
        return AutomationCore(
            name=name,
            trigger=EventTrigger(
                posture=Posture.Reactive, expect=events, for_each={"prefect.resource.id"}, threshold=1
            ),
            actions=[SendNotification(block_document_id=block.id, subject=subject, body=body) for block in blocks],
        )

    failed = {f"prefect.flow-run.{state}" for state in ("Failed", "Crashed")}
    return [
        on(FAILED_AUTOMATION, failed, "{{ flow.name }}: {{ flow_run.state.name }}", _FAILED),
        on(MODEL_AUTOMATION, {PROMOTED, WORSE, ASKED}, "{{ event.payload.subject }}", "{{ event.payload.text }}"),
    ]


def say(event: str, model: str, subject: str, text: str) -> None:
    """Tells the server what happened to a registered model.

    Args:
        event: `PROMOTED`, `WORSE` or `ASKED`.
        model: name of the registered model.
        subject: one line.
        text: the message.
    """
    from prefect.events import emit_event  # noqa: PLC0415  # seconds to import

    resource = {"prefect.resource.id": f"vldac.model.{model}", "prefect.resource.name": model}
    emit_event(event, resource, payload={"subject": subject, "text": text})
