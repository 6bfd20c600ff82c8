"""``python -m upstream_stub``."""

import sys

from upstream_stub.cli import main

if __name__ == "__main__":
    sys.exit(main())
