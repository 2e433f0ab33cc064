"""`python -P -m fleet.cli`: the same as `skerry`."""

import sys

from fleet.cli import main

sys.exit(main())
