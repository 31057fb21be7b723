"""`python -m refvlm`, the same as the command `refvlm`."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
