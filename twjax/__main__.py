"""`python -m twjax` is the `twjax` command."""

import sys

from twjax.cli import main

if __name__ == "__main__":
    sys.exit(main())
