"""Runs the pages of the guide and puts what they draw beside them.

Run by `make figures`. Look at the figures before they are committed.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path

from tests.support import pages

GUIDE = Path(__file__).parents[1] / "specs" / "guide"


def main() -> None:
    """Draws the figures of all pages anew."""
    for page in sorted(GUIDE.glob("*.md")):
        with tempfile.TemporaryDirectory() as there, contextlib.chdir(there):
            pages.run_page(page)
            for image in pages.images(page.read_text()):
                print(shutil.copy(image, page.with_name(image)))


if __name__ == "__main__":
    main()
