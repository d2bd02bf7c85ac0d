"""Why a request is refused, other than for what it says."""

from __future__ import annotations

from typing import ClassVar

from vldac.utils.errors import UserError


class RefusedError(UserError):
    """A request that cannot be answered now; the message is one line."""

    #: Of HTTP.
    status: ClassVar[int] = 409


class NotFoundError(RefusedError):
    """There is no such session, environment or model."""

    status = 404


class BusyError(RefusedError):
    """The model answers others."""

    status = 503
