"""Mutated files: each ends in an error of ours or in a network, soon and in bounds.

    python -m tests.fuzz --count 200000 --seed 0

Takes the valid test vectors, and every other time the same networks with leaves in many
small parts; flips bits, cuts, splices, repeats, and sets bytes and lengths to extremes.
In most files the checksums are made right again, so that what is behind them is
reached. A file whose checksums are left as they are must be rejected, or be the network
that it was; or that of another vector, all of which may have been spliced in. Every
reader must make the same of a file (`readers`). Prints what happened, and every
failure; of one run, `experiments/results/benchmarks/fuzz.txt` has it.
"""

import argparse
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from deepcomp_jax import FormatError
from deepcomp_jax.format import container, file_header, parts, records
from deepcomp_jax.streams.bits import put_varint as varint
from tests.make_vectors import FOLDER, description
from tests.support import readers, small_parts
from tests.support.vector_parts import crc

MAX_BYTES = 1 << 18  # of memory
MAX_SECONDS = 1.0  # of the processor, for one file
LARGEST = 5000  # bytes of a file to begin with
SMALL = 10  # values of a part, of leaves in many parts
MEMORY = 1 << 30  # bytes that the process may take beyond what it has at first
_EXTREMES = [0, 1, 127, 128, 255, 256, 2**15, 2**16, 2**31, 2**32, 2**62, 2**63 - 1]


def main() -> None:
    """Runs the number of files asked for; exits with 1 if one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    limit_memory()
    with tempfile.TemporaryDirectory() as folder:
        outcomes, failures = run(args.count, args.seed, folder)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:>8}  {outcome}")
    for failure in failures:
        print(failure)
    raise SystemExit(1 if failures else 0)


def limit_memory() -> None:
    """Makes the process fail that asks for much more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run(count: int, seed: int, folder: str) -> tuple[Counter[str], list[str]]:
    """Mutates and reads so many files.

    Args:
        count: Of files.
        seed: Of the mutations.
        folder: For files that are read from a path.

    Returns:
        How often each clause rejected a file or a network came out; and the failures,
        each with the seed that makes its file again.
    """
    outcomes: Counter[str] = Counter()
    scratch = Path(folder) / "fuzzed.dcz"
    failures: list[str] = []
    corpora = vectors(), vectors_in_parts()
    for number in range(count):
        source = random.Random(f"{seed} {number}")
        corpus = corpora[number % 2]
        with small_parts.limited(corpus.most):
            outcome = attempt(source, corpus, scratch)
        outcomes[outcome.split(":")[0]] += 1
        if outcome.startswith("failure"):
            failures.append(f"--seed {seed}, file {number}: {outcome}")
    return outcomes, failures


class Corpus(NamedTuple):
    """Valid files.

    Attributes:
        files: Their bytes.
        networks: What is in them.
        most: Values of a part, with which they were written and are read.
    """

    files: list[bytes]
    networks: list[dict[str, object]]
    most: int


def vectors() -> Corpus:
    """The test vectors that are small."""
    paths = sorted((FOLDER / "valid").glob("*.dcz"))
    files = [data for path in paths if len(data := path.read_bytes()) < LARGEST]
    return Corpus(files, list(map(description, files)), parts.MOST)


def vectors_in_parts() -> Corpus:
    """The networks of the test vectors, with many parts of most leaves."""
    files: list[bytes] = []
    networks: list[dict[str, object]] = []
    for data, network in zip(*vectors()[:2], strict=True):
        header = container.read_header(data)
        if sum(entry.layout.size for entry in header.leaves) > LARGEST:
            continue
        loaded = container.loads(data)
        with small_parts.limited(SMALL):
            written = container.dumps(loaded, header.metadata)
        if len(written) < LARGEST:
            files.append(written)
            networks.append(network)
    return Corpus(files, networks, SMALL)


def attempt(source: random.Random, corpus: Corpus, scratch: Path) -> str:
    """Mutates a file and reads it; what came of it."""
    original = source.choice(corpus.files)
    repaired = source.random() < 0.7
    if repaired and source.random() < 0.6:
        damaged = spoil_body(source, original)
    else:
        damaged = mutate(source, original, corpus.files)
    data = repair(damaged) if repaired else damaged
    return read(data, None if repaired else corpus.networks, scratch)


def read(
    data: bytes, intact: list[dict[str, object]] | None, scratch: Path | None = None
) -> str:
    """Reads a file with every reader; what came of it.

    Args:
        data: The file.
        intact: The networks that it may hold; None for any.
        scratch: Where the file may be written, for the readers of files.
    """
    began = time.process_time()
    found = network = None
    try:
        network = container.loads(data, max_bytes=MAX_BYTES)
        found = readers.of_network(network)
        outcome = "a network"
        if intact is not None and description(data) not in intact:
            outcome = "failure: another network, its checksums right"
    except FormatError as error:
        found = error.clause
        outcome = f"rejected by {error.clause}"
        if not 0 <= error.offset <= len(data):
            outcome = f"failure: offset {error.offset} of {len(data)}"
    except Exception as error:
        return f"failure: {type(error).__name__}: {error}"
    seconds = time.process_time() - began
    if seconds > MAX_SECONDS:
        return f"failure: {seconds:.1f} s"
    wrong = readers.differing(data, found, MAX_BYTES, scratch)
    return f"failure: {outcome}, but {wrong}" if wrong else outcome


def repair(data: bytes) -> bytes:
    """The file with its checksums made right, as far as it can be understood."""
    try:
        start = 5
        while data[start] & 0x80:
            start += 1
        groups = data[5 : start + 1]
        size = sum((byte & 0x7F) << 7 * i for i, byte in enumerate(groups))
        stop = start + 1 + size
        data = data[:stop] + crc(data[:stop]) + data[stop + 4 :]
        for section in _sections(data):
            end = section.offset + section.size
            if section.checksum_bytes and end <= len(data):
                body = data[section.offset : end]
                data = data[:end] + crc(body) + data[end + 4 :]
    except (FormatError, IndexError):
        pass
    return data


def _sections(data: bytes) -> list[records.Section]:
    """Where the bodies are, whether or not the file is as long as its header says."""
    leaves = file_header.get(data).leaves
    return [section for entry in leaves for section in entry.bodies]


def mutate(source: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """The file with one to four changes."""
    changes: list[Callable[[bytes], bytes]] = [
        lambda file: _flip(source, file),
        lambda file: file[: source.randrange(len(file) + 1)],
        lambda file: _splice(source, file, source.choice(corpus)),
        lambda file: _splice(source, file, file),
        lambda file: _replace(source, file, source.randbytes(source.randint(1, 8))),
        lambda file: _replace(source, file, varint(source.choice(_EXTREMES))),
        lambda file: _insert(source, file, varint(source.choice(_EXTREMES))),
    ]
    for _ in range(source.randint(1, 4)):
        data = source.choice(changes)(data)
    return data


def spoil_body(source: random.Random, data: bytes) -> bytes:
    """The file with one to three changes in the body of a leaf, of equal size."""
    sections = [section for section in _sections(data) if section.size]
    if not sections:
        return data
    section = source.choice(sections)
    body = data[section.offset : section.offset + section.size]
    for _ in range(source.randint(1, 3)):
        part = source.choice(
            [
                varint(source.choice(_EXTREMES)),
                source.randbytes(source.randint(1, 4)),
                bytes([source.choice([0, 1, 255])]),
            ]
        )
        near = source.choice([6, 30, len(body)])  # most fields are in front
        at = source.randrange(min(near, len(body)))
        body = _flip(source, body[:at] + part + body[at + len(part) :])[: section.size]
    return data[: section.offset] + body + data[section.offset + section.size :]


def _flip(source: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    at = source.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << source.randrange(8)]) + data[at + 1 :]


def _splice(source: random.Random, data: bytes, other: bytes) -> bytes:
    first = source.randrange(len(other) + 1)
    part = other[first : first + source.randint(1, 40)]
    return _replace(source, data, part)


def _replace(source: random.Random, data: bytes, part: bytes) -> bytes:
    at = source.randrange(len(data) + 1)
    return data[:at] + part + data[at + len(part) :]


def _insert(source: random.Random, data: bytes, part: bytes) -> bytes:
    at = source.randrange(len(data) + 1)
    return data[:at] + part + data[at:]


if __name__ == "__main__":
    main()
