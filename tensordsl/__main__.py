"""`python -m tensordsl`: the command."""

import sys

from tensordsl.cli import main

if __name__ == "__main__":
    sys.exit(main())
