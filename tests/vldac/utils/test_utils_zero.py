from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vldac.utils.zero import deepspeed


def test_deepspeed_is_imported_without_mlflow_which_can_be_imported_after_it() -> None:
    code = (
        "import sys, importlib.util; from vldac.utils.zero import deepspeed; "
        "print([name for name in sys.modules if name.partition('.')[0] == 'mlflow'], "
        "importlib.util.find_spec('mlflow') is not None, callable(deepspeed.initialize))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[] True True"


def test_gloo_serves_ranks_without_a_kernel_that_would_have_to_be_compiled() -> None:
    assert deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] is False
