"""Ctrl-C and termination end a verb where that is safe, so that nothing is left."""

import contextlib
import importlib
import signal
from collections.abc import Iterator


class _Stop:
    """What happens when somebody wants an end.

    Attributes:
        held: How often ends are held back at the moment.
        wanted: Whether somebody wanted one meanwhile.
    """

    held = 0
    wanted = False

    def __call__(self, *_: object) -> None:
        if self.held:
            self.wanted = True
        else:
            raise KeyboardInterrupt


_STOP = _Stop()


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt meanwhile, but not in `load`."""
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, _STOP)
    except ValueError:  # not the main thread, which alone gets signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def load(*modules: str) -> None:
    """Imports modules without being interrupted, which some of them cannot bear.

    Args:
        modules: Their names. Those that are not installed are left to whoever uses
            them, and says so.
    """
    _STOP.held += 1
    try:
        for name in modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    finally:
        _STOP.held -= 1
    if _STOP.wanted and not _STOP.held:
        _STOP.wanted = False
        raise KeyboardInterrupt
