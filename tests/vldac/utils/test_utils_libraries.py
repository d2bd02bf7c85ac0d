from __future__ import annotations

import os
import subprocess
import sys

CODE = """
import torch
from vldac.utils.libraries import set_threads
print(set_threads(3), torch.get_num_threads(), set_threads(0), set_threads(0, ranks=1000))
"""


def test_threads_are_fixed_or_shared_out() -> None:
    printed = subprocess.check_output([sys.executable, "-c", CODE], text=True)
    assert printed.split() == ["3", "3", str(len(os.sched_getaffinity(0))), "1"]
