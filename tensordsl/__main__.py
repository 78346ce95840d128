"""`python -m tensordsl`: the command."""

import sys

from tensordsl.command.cli import main

if __name__ == "__main__":
    sys.exit(main())
