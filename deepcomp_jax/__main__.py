"""`python -m deepcomp_jax` is `dcz`."""

import sys

from deepcomp_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
