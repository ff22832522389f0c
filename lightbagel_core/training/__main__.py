"""torchrun … -m lightbagel_core.training --preset nano --out DIR: what `lightbagel train` does, in many processes."""

from __future__ import annotations

import argparse
import sys

from .command import add_arguments, command

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m lightbagel_core.training", description=__doc__)
    add_arguments(parser)
    try:
        sys.exit(command(parser.parse_intermixed_args()))
    except (ValueError, OSError) as error:
        print(f"lightbagel: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
