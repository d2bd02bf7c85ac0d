"""A person's yes before a version becomes the champion, given on the page of the flow run that waits for it."""

from __future__ import annotations

from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

#: Seconds that a run waits for an answer: two days. Then it fails, and nothing has changed.
PATIENCE = 2 * 24 * 3600


class Approval(RunInput):
    """The form that *Resume* opens.

    Attributes:
        promote: the answer.
        by: who gives it.
    """

    promote: bool = Field(default=False, title="Make it the champion", description="Unticked: it stays as it is.")
    by: str = Field(default="", max_length=200, description="Your name, which is kept with the version.")


def ask(text: str) -> Approval:
    """Pauses the present flow run until a person has answered.

    Args:
        text: Markdown above the form: what there is to decide.
    """
    form = Approval.with_initial_data(description=text)
    answer: Approval = pause_flow_run(wait_for_input=form, timeout=PATIENCE, key="promotion")
    return answer
