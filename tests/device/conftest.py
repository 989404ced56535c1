"""What tests of compiled loops share."""

from collections.abc import Callable, Iterator

import jax
import jax.monitoring
import pytest


@pytest.fixture
def compiled() -> Iterator[Callable[[], int]]:
    """How many programs XLA has compiled since, whatever they are for."""
    jax.clear_caches()
    events: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        if event.endswith("backend_compile_duration"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: len(events)
    jax.monitoring.unregister_event_duration_listener(listen)
