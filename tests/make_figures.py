"""Runs the pages of the guide and puts what they draw beside them.

Run by `make figures`. Look at the figures before they are committed.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from tests.support import pages

GUIDE = Path(__file__).parents[1] / "specs" / "guide"


def main() -> None:
    """Draws the figures of all pages anew."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    for page in sorted(GUIDE.glob("*.md")):
        with tempfile.TemporaryDirectory() as there, contextlib.chdir(there):
            pages.run(page)
            for image in Path().glob("*.png"):
                print(shutil.copy(image, GUIDE))


if __name__ == "__main__":
    main()
