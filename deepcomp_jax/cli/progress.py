"""How far a verb is, on a line of the terminal."""

import contextlib
import sys
import time
from collections.abc import Iterator

from deepcomp_jax.cli.common import bytes_text


@contextlib.contextmanager
def progress(verb: str, *, quiet: bool) -> Iterator["Meter"]:
    """A line about what is done, if somebody looks at a terminal."""
    meter = Meter(verb, on=not quiet and sys.stderr.isatty())
    try:
        yield meter
    finally:
        meter.clear()


class Meter:
    """A line that says how far a verb is: tensors, bytes, and the time that is left."""

    def __init__(self, verb: str, *, on: bool) -> None:
        """Begins to count; without `on` nothing is ever written."""
        self._verb, self._on = verb, on
        self._began, self._last, self._width = time.monotonic(), 0.0, 0
        self._count = self._read = self._done = 0

    def __call__(self, done: int, leaves: int, read: int, written: int) -> None:
        """Tells how far it is, some times a second at most.

        With fewer tensors than before, something else has begun: a file that is tried.
        """
        now = time.monotonic()
        if done < self._done:
            self._began = now
        self._done = done
        if not self._on or (now - self._last < 0.1 and done < leaves):
            return
        self._last = now
        left = (now - self._began) * (leaves - done) / max(done, 1)
        text = f"{self._verb}: tensor {done} of {leaves}, {bytes_text(read)}"
        text += f" -> {bytes_text(written)}" if written else ""
        text += f", {left:.0f} s left"
        print(f"\r{text.ljust(self._width)}", end="", file=sys.stderr, flush=True)
        self._width = len(text)

    def one_more(self, leaves: int, read: int) -> None:
        """Tells that one more leaf was read."""
        self._count, self._read = self._count + 1, self._read + read
        self(self._count, leaves, self._read, 0)

    def clear(self) -> None:
        """Removes the line."""
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)
            self._width = 0
