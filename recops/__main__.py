"""`python -m recops` is the command `recops`."""

import sys

from recops.cli import main

if __name__ == "__main__":
    sys.exit(main())
