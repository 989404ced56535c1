"""Installs each archive of a release in an environment of its own, and tries it.

Run by `make dist`, with the archives as arguments. Needs the standard library alone.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

MAX_BYTES = 1_000_000  # of an archive: the results of the experiments are not in it

# Run where the repository cannot be seen, so that what was installed is imported.
TRIAL = r"""
import importlib.metadata, os, re, sys
import numpy as np
import deepcomp_jax as dc

archive, = sys.argv[1:]
about = importlib.metadata.metadata("deepcomp-jax")
assert f"deepcomp_jax-{dc.__version__}" in archive, (archive, dc.__version__)
assert about["Version"] == dc.__version__, (about["Version"], dc.__version__)
links = re.findall(r"\]\((?!https?://)[^)]*\)", about.get_payload())
assert not links, f"PyPI shows the README without what is beside it: {links}"
assert os.path.exists(os.path.join(os.path.dirname(dc.__file__), "py.typed"))

variables = {"dense": {"kernel": np.eye(64, dtype="f4"), "bias": np.ones(64, "f4")}}
compressed = dc.compress(variables)
size = dc.save("model.dcz", compressed)
assert size == dc.report("model.dcz").file_bytes < 64 * 64
loaded, expected = dc.load("model.dcz"), dc.decompress(compressed)
for name, leaf in expected["dense"].items():
    np.testing.assert_array_equal(loaded["dense"][name], leaf)
print(f"{archive}: installed and tried")
"""


def attempt(archive: Path) -> None:
    """Checks the size of an archive, installs it and runs the trial.

    Args:
        archive: A wheel or an sdist.

    Raises:
        ValueError: It has `MAX_BYTES` or more.
        subprocess.CalledProcessError: It cannot be installed, or the trial fails.
    """
    if (size := archive.stat().st_size) >= MAX_BYTES:
        raise ValueError(
            f"{archive.name} has {size:,} bytes, not fewer than {MAX_BYTES:,}: "
            "exclude what no user needs in pyproject.toml"
        )
    with tempfile.TemporaryDirectory() as there:
        venv.create(Path(there, "venv"), with_pip=True)
        python = Path(there, "venv", "bin", "python")
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, archive.resolve()], check=True, cwd=there)
        subprocess.run([python, "-c", TRIAL, archive.name], check=True, cwd=there)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("name an sdist and a wheel")
    for name in sys.argv[1:]:
        attempt(Path(name))
