"""VL-DAC: Vision-Language Decoupled Actor-Critic (arXiv 2508.04280)."""

import os

# Both are read when a library is first imported, so they are set before any is.
# Threads that wait by spinning take the core from the thread they wait for as soon as anything else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# DeepSpeed looks for an accelerator and warns at length where there is none.
if not any(os.path.exists(device) for device in ("/dev/nvidiactl", "/dev/kfd")):
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
