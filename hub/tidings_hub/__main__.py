"""`python -m tidings_hub` is the command `tidings`."""

from __future__ import annotations

import sys

from tidings_hub.cli import main

sys.exit(main())
