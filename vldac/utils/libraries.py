"""How the libraries that a run stands on are set up."""

from __future__ import annotations

import logging
import os
import warnings


def quiet() -> None:
    """Keeps libraries' start-up chatter off the terminal; warnings about a run itself stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")  # DeepSpeed reads every attribute
    warnings.filterwarnings("ignore", message=".*torch.distributed.* is deprecated.*")  # DeepSpeed calls them
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415  # reads its variables at import

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def set_threads(threads: int, ranks: int = 1) -> int:
    """Fixes the number of CPU threads of this process, on which rounding depends; 0 shares the cores out.

    Args:
        threads: of this process.
        ranks: processes that share the machine's cores.

    Returns:
        The number of threads.
    """
    import torch  # noqa: PLC0415  # `quiet` is called by processes that need no tensors

    cores = len(os.sched_getaffinity(0))
    count = threads or max(1, cores // ranks)
    torch.set_num_threads(count)
    return count
