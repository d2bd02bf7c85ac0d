from __future__ import annotations

import os
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


def test_deepspeed_trains_on_the_cpu_where_the_run_does_beside_a_gpu_that_it_sees() -> None:
    # The accelerator of a machine with a GPU, before `work_on`; each of its calls would fail here.
    code = (
        "import torch; from vldac.utils.zero import deepspeed, work_on\n"
        "from deepspeed.accelerator import get_accelerator\n"
        "from vldac.distributed import process_group\n"
        "print(get_accelerator().device_name())\n"
        "work_on(torch.device('cpu'))\n"
        "with process_group(1):\n"
        "    model = torch.nn.Linear(2, 1)\n"
        "    engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.Adam(model.parameters()), config={\n"
        "        'train_micro_batch_size_per_gpu': 1, 'zero_optimization': {'stage': 1},\n"
        "        'zero_allow_untested_optimizer': True, 'zero_force_ds_cpu_optimizer': False})\n"
        "    before = model.weight.detach().clone()\n"
        "    engine.backward(engine(torch.ones(1, 2)).sum())\n"
        "    engine.step()\n"
        "    print(get_accelerator().device_name(), bool((model.weight != before).all()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "DS_ACCELERATOR": "cuda"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith(("cuda", "cpu"))] == ["cuda", "cpu True"]


def test_gloo_serves_ranks_without_a_kernel_that_would_have_to_be_compiled() -> None:
    assert deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] is False
