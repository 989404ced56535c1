"""What a bare machine lacks: CIFAR-10, and packages as wheels."""

import gzip
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.gpu import parts

_ARCHIVES = ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz")
_OLDEST = 17  # of the glibc of a `manylinux` platform, 2.17


def pack(
    folder: Path,
    *,
    data_dir: Path | None,
    packages: Sequence[str],
    python: str,
    glibc: str,
    most: int,
) -> parts.Manifest:
    """Packs data and wheels into loads.

    Args:
        folder: Where the loads go.
        data_dir: A folder with an official archive of CIFAR-10, or with the folder of
            its unpacked batches; None packs no data.
        packages: Names, or requirements, of packages that the machine lacks. What they
            need in turn is packed too.
        python: The version of Python there, as "3.12".
        glibc: The version of its C library, as "2.28"; older wheels work too.
        most: The most bytes of a load.

    Raises:
        FileNotFoundError: The folder holds no version of the data.
        RuntimeError: `pip` could not download a package.
    """
    with tempfile.TemporaryDirectory() as made:
        sources: dict[str, Path] = {}
        if packages:
            sources |= _wheels(Path(made), packages, python, glibc)
        if data_dir is not None:
            sources |= _data(data_dir, Path(made))
        return parts.pack(sources, folder, most)


def _wheels(
    folder: Path, packages: Sequence[str], python: str, glibc: str
) -> Mapping[str, Path]:
    """Downloads wheels for another machine, of x86-64 and Linux."""
    newest = int(glibc.partition(".")[2])
    platforms = [f"manylinux_2_{n}_x86_64" for n in range(newest, _OLDEST - 1, -1)]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--only-binary=:all:",
    ]
    command += ["--implementation=cp", f"--python-version={python}"]
    command += [f"--platform={name}" for name in (*platforms, "manylinux2014_x86_64")]
    done = subprocess.run([*command, "--dest", str(folder), *packages], check=False)
    if done.returncode:
        raise RuntimeError(
            f"pip found no wheels of {' '.join(packages)} for Python {python} and "
            f"glibc {glibc}: correct the names, or give other versions"
        )
    return {f"wheels/{path.name}": path for path in sorted(folder.glob("*.whl"))}


def _data(data_dir: Path, made: Path) -> Mapping[str, Path]:
    """An official archive, or one made of the batches that it unpacks to."""
    for name in _ARCHIVES:
        if (data_dir / name).is_file():
            return {f"data/{name}": data_dir / name}
    for kind, name in zip(("bin", "py"), _ARCHIVES, strict=True):
        inner = f"cifar-10-batches-{kind}"
        found = [each for each in (data_dir / inner, data_dir) if each.name == inner]
        for batches in filter(Path.is_dir, found):
            (made / name).write_bytes(_archive(batches, inner))
            return {f"data/{name}": made / name}
    raise FileNotFoundError(
        f"{data_dir} holds neither {' nor '.join(_ARCHIVES)} nor the folder that one "
        "of them unpacks to: get it from https://www.cs.toronto.edu/~kriz/cifar.html"
    )


def _archive(batches: Path, inner: str) -> bytes:
    """The batches as an archive, the same bytes each time."""
    made = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", fileobj=made, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for path in sorted(batches.glob("*_batch*")):
            info = tarfile.TarInfo(f"{inner}/{path.name}")
            info.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(info, file)
    return made.getvalue()
