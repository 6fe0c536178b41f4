"""`python3 tests/aws_emulator`, from anywhere."""

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from aws_emulator.cli import main  # noqa: E402

sys.exit(main())
