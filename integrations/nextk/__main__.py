"""Run the command line: `python -m nextk` does the same as `nextk`."""

import sys

from nextk.cli.main import main

sys.exit(main())
