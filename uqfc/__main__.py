"""``python -m uqfc`` is the command ``uqfc``."""

from __future__ import annotations

import sys

from uqfc.cli import main

if __name__ == "__main__":
    sys.exit(main())
