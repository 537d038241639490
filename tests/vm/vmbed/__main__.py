"""``python -m vmbed build``: have the disk in the cache before the tests need it."""

from __future__ import annotations

import sys

from tune_nodes.errors import TuneError
from vmbed.image import image

if sys.argv[1:] != ["build"]:
    sys.exit("usage: python -m vmbed build")
try:
    print(image().directory)
except TuneError as error:
    sys.exit(str(error))
