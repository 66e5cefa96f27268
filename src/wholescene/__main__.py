"""`python -m wholescene`: the command line, for a Python whose scripts are not on the path."""

import sys

from wholescene.cli import main

if __name__ == "__main__":
    sys.exit(main())
