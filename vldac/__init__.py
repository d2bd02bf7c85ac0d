"""VL-DAC: Vision-Language Decoupled Actor-Critic (arXiv 2508.04280).

    import vldac

    config = vldac.load_config("params.yaml", ["env=numberline"])
    env = vldac.make(config.env.id, **config.env.make_options)
    actor = vldac.Actor.from_pretrained("models/policy", base="models/base")

`vldac.train` and `vldac.warm_start` are modules: `vldac.train.train(...)` trains, `vldac.warm_start.run(...)` builds a
base model. Everything is imported when it is first used, so that `import vldac` itself loads no library.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envs.registry import make, registered
    from vldac import train, warm_start
    from vldac.acting import Actor
    from vldac.config import Config, ConfigError
    from vldac.config import load as load_config
    from vldac.parsing import parse_response

    __version__: str

__all__ = [
    "Actor",
    "Config",
    "ConfigError",
    "__version__",
    "load_config",
    "make",
    "parse_response",
    "registered",
    "train",
    "warm_start",
]

# Both are read when a library is first imported, so they are set before any is.
# Threads that wait by spinning take the core from the thread they wait for as soon as anything else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# DeepSpeed looks for an accelerator and warns at length where there is none.
if not any(os.path.exists(device) for device in ("/dev/nvidiactl", "/dev/kfd")):
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

#: Where each exported name is: the package, the module in it, and the name there; None for the module itself.
_EXPORTS: dict[str, tuple[str, str, str | None]] = {
    "Actor": ("vldac", "acting", "Actor"),
    "Config": ("vldac", "config", "Config"),
    "ConfigError": ("vldac", "config", "ConfigError"),
    "load_config": ("vldac", "config", "load"),
    "make": ("envs", "registry", "make"),
    "parse_response": ("vldac", "parsing", "parse_response"),
    "registered": ("envs", "registry", "registered"),
    "train": ("vldac", "train", None),
    "warm_start": ("vldac", "warm_start", None),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _EXPORTS:
        package, module, attribute = _EXPORTS[name]
        value = importlib.import_module(f"{package}.{module}")
        if attribute is not None:
            value = getattr(value, attribute)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """The version in pyproject.toml, by way of the installed package; a copied source tree has none."""
    from importlib import metadata  # noqa: PLC0415  # takes as long as all else here

    try:
        return metadata.version("vldac")
    except metadata.PackageNotFoundError:
        return "0+unknown"
