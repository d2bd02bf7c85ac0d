"""`python -m vldac`: the command `vldac`, where its script is not on PATH."""

import runpy

# By name: the method does not depend on the pipeline whose command this is.
runpy.run_module("pipelines.commands.cli", run_name="__main__", alter_sys=True)
