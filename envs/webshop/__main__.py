"""Opens the shop for people: `vldac envs shop`."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence

from envs.base import SimulatorError
from envs.webshop.server import ShopServer
from envs.webshop.shop import open_shop


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until it is interrupted; returns the exit status."""
    parser = argparse.ArgumentParser(prog="vldac envs shop", description="Opens the shop in a browser near you.")
    parser.add_argument(
        "--catalogue", default="default", help='"default", "small" or a directory of the released files'
    )
    parser.add_argument("--goals", default="synthetic", choices=("synthetic", "human"))
    parser.add_argument(
        "--tagger", choices=("spacy", "rules"), help="finds nouns; the default is spacy for the released files"
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = parser.parse_args(arguments)
    try:
        server = ShopServer(open_shop(options.catalogue, options.goals, options.tagger), options.port)
    except (OSError, ValueError, SimulatorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"the shop is open at {server.address} (Ctrl-C closes it)", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
