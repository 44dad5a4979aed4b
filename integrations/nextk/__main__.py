"""`python -m nextk` is `nextk`."""

import sys

from nextk.cli.main import main

sys.exit(main())
