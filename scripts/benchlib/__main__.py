"""python -m benchlib: see scripts/bench."""

import sys

from benchlib.command import main

sys.exit(main())
