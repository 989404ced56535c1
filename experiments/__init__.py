"""The study of Deep Compression on real networks, and benchmarks."""

import time

# Time limits count from here: `python -m` imports this before anything that takes long.
STARTED = time.monotonic()
