"""The command `dcz`: a file for each verb, and what all of them have in common.

compress, decompress, extract    from a checkpoint to a `.dcz` file, and back
inspect, verify, diff, bench     what is in a file, and whether it is right
common                           arguments, output, progress and errors of all
"""

import sys

try:
    from deepcomp_jax.cli.main import main as main
except KeyboardInterrupt:  # before anything else of the command could take care of it
    print("dcz: interrupted; nothing was written", file=sys.stderr)
    raise SystemExit(130) from None
