"""`python -m mavil_edu` is `mavil-edu`."""

import sys

from mavil_edu.cli import main

if __name__ == "__main__":
    sys.exit(main())
