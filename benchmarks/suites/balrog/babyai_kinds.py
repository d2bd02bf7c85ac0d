"""The kinds of BabyAI mission that BALROG has; their simulator need not be installed to name them."""

from __future__ import annotations

from typing import Literal

BabyAIKind = Literal["goto", "pickup", "open", "putnext", "pick_up_seq_go_to"]
