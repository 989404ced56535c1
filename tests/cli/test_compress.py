"""compress, decompress and extract: from a checkpoint to a file, and back."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import checkpoints
from deepcomp_jax.checkpoints import containers
from tests.cli.conftest import METADATA, network
from tests.support import laws
from tests.support.checkpoint_trees import PATHS

CHECKPOINTS = sorted(set(PATHS) - {"dcz"})


def _read(path: Path) -> dict[str, np.ndarray]:
    with checkpoints.open(path) as found:
        return {name: np.asarray(leaf) for name, leaf in found.leaves.items()}


def test_without_settings_weights_are_rounded_a_little(dcz: Any, model: Path):
    said = dcz("compress", model)
    assert said.status == 0 and said.err == ""
    output = model.with_suffix(".dcz")
    size = output.stat().st_size
    assert said.out.splitlines()[-1] == f"{output}: {size} bytes on disk"
    assert f"{model.stat().st_size} bytes on disk" in said.out
    expected = dc.decompress(dc.compress(network()))
    laws.assert_identical(dc.load(output), expected)
    assert sorted(os.listdir(model.parent)) == ["model.dcz", "model.safetensors"]


@pytest.mark.parametrize("format", CHECKPOINTS)
def test_lossless_gives_the_same_checkpoint_back(dcz: Any, tmp_path: Path, format: str):
    tree: Any = {
        "params": {
            "kernel": np.linspace(-1, 1, 600, dtype=np.float32).reshape(20, 30),
            "scale": np.array([1, np.nan, -0.0, np.inf], np.float32),
            "wide": np.linspace(0, 1, 9),
        },
        "layers": [np.arange(3), {"n": None, "b": np.array([True, False])}],
        "step": np.int32(7),
    }
    metadata = {} if format in ("npz", "msgpack") else {"by": "me", "note": "ä\n"}
    source, back = tmp_path / PATHS[format], tmp_path / "back"
    checkpoints.write(source, tree, metadata=metadata, format=format)
    assert dcz("compress", "--lossless", source, "-o", tmp_path / "x.dcz")[0] == 0
    assert dcz("decompress", tmp_path / "x.dcz", "-o", back) == (
        0,
        f"{back}: {sum(f.stat().st_size for f in _files(back))} bytes on disk\n",
        "",
    )
    with checkpoints.open(source) as first, checkpoints.open(back) as second:
        assert (first.format, first.metadata) == (second.format, second.metadata)
        laws.assert_identical(
            jax.tree.map(np.asarray, first.tree), jax.tree.map(np.asarray, second.tree)
        )
    assert dcz("diff", source, back) == (0, "", "")


def _files(path: Path) -> list[Path]:
    return [own for own in [path, *path.rglob("*")] if own.is_file()]


def test_a_lossless_round_trip_of_a_file_is_exact(dcz: Any, model: Path):
    dcz("compress", "--lossless", model)
    back = model.with_name("back.safetensors")
    dcz("decompress", model.with_suffix(".dcz"), "-o", back)
    assert back.read_bytes() == model.read_bytes()


@pytest.mark.parametrize("target", CHECKPOINTS)
def test_the_format_follows_from_the_output(dcz: Any, model: Path, target: str):
    dcz("compress", model, *(["--skip", "float8"] if target == "npz" else []))
    output = model.with_name(f"new-{PATHS[target]}")
    asked = [] if output.suffix else ["--format", target]
    said = dcz("decompress", model.with_suffix(".dcz"), "-o", output, *asked)
    assert said.status == 0
    with checkpoints.open(output) as found, dc.open(model.with_suffix(".dcz")) as file:
        assert found.format == target
        for name, leaf in file.items():
            laws.assert_identical(np.asarray(found.leaves[name]), np.asarray(leaf))
        without = target in ("npz", "msgpack")
        assert found.metadata == ({} if without else METADATA)
        assert ("has no place for metadata" in said.err) == without


def test_the_output_is_named_after_the_input(dcz: Any, tmp_path: Path):
    for format, name in PATHS.items():
        checkpoints.write(tmp_path / name, {"w": np.ones(3)}, format=format)
    for name, output in {
        "m.npz": "m.dcz", "m.msgpack": "m.dcz", "orbax": "orbax.dcz",
        "sharded": "sharded.dcz",
        "sharded/model.safetensors.index.json": "sharded/model.dcz",
    }.items():  # fmt: skip
        assert dcz("compress", tmp_path / name, "-f")[0] == 0
        assert (tmp_path / output).exists()
        (tmp_path / output).unlink()
    dc.write(tmp_path / "set.dcz", {"a": np.ones(3), "b": np.zeros(4)}, files=2)
    part = tmp_path / "set-00001-of-00002.dcz"
    assert dcz("decompress", part, "--format", "npz")[0] == 0
    assert _read(tmp_path / "set.npz").keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("only", "skip", "kept"),
    [
        ("^params/", None, {"params/dense/kernel", "params/layers/0/w"}),
        ("^params/", "layers", {"params/dense/kernel"}),
        (None, "^opt|step", {"params/dense/kernel", "params/layers/0/w"}),
    ],
)
def test_only_the_parameters_of_a_state(
    dcz: Any, tmp_path: Path, only: str | None, skip: str | None, kept: set[str]
):
    params = {"dense": {"kernel": np.ones((3, 4))}, "layers": [{"w": np.ones(5)}]}
    state = {"params": params, "opt": [{"mu": params}, None], "step": np.int32(3)}
    checkpoints.write(tmp_path / "state", state, format="orbax")
    options = [*(["--only", only] if only else []), *(["--skip", skip] if skip else [])]
    output = tmp_path / "state.dcz"
    assert dcz("compress", "--lossless", tmp_path / "state", *options)[0] == 0
    tree = dc.load(output)
    assert containers.named_leaves(tree).keys() == kept
    if not skip:
        laws.assert_identical(tree, {"params": params})


RULES = """
[[rule]]
pattern = "^layer.*weight$"
prune = { method = "by_magnitude", sparsity = 0.75 }
share = { method = "kmeans", bits = 3 }
coding = "relative"
gap_bits = 4

[[rule]]
pattern = "embed"
share = { method = "distinct" }
group = "table"
"""


def test_rules_from_a_file(dcz: Any, model: Path, tmp_path: Path):
    (tmp_path / "rules.toml").write_text(RULES)
    assert dcz("compress", model, "--rules", tmp_path / "rules.toml")[0] == 0
    rules = [
        dc.Rule(
            "^layer.*weight$", prune=dc.prune.by_magnitude(0.75),
            share=dc.share.kmeans(bits=3), coding="relative", gap_bits=4,
        ),
        dc.Rule("embed", share=dc.share.distinct, group="table"),
    ]  # fmt: skip
    expected = dc.decompress(dc.compress(network(), rules))
    laws.assert_identical(dc.load(model.with_suffix(".dcz")), expected)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[[rule", "is no TOML"),
        ("", "must have tables"),
        ("a = 3", "must have tables"),
        ("rule = 3", "must have tables"),
        ("[[rule]]\nshare = {method = 'kmeans', bits = 4}", "rule 1: it has no patt"),
        ("[[rule]]\npattern = 'a'\n[[rule]]\npattern = '('", "rule 2: .*no regular"),
        ("[[rule]]\npattern = 'a'\nbits = 4", "rule 1: there is no key 'bits'"),
        ("[[rule]]\npattern = 'a'\nshare = 'kmeans'", "rule 1: share is 'kmeans'"),
        ("[[rule]]\npattern = 'a'\nshare = {method = 'os'}", "one of kmeans, lloyd"),
        ("[[rule]]\npattern = 'a'\nshare = {method = 'kmeans', x = 1}", "takes k, b"),
        ("[[rule]]\npattern = 'a'\nprune = {method = 'by_erk', sparsity = 2}", "out|2"),
        ("[[rule]]\npattern = 3", "rule 1"),
    ],
)
def test_rules_that_are_none(
    dcz: Any, model: Path, tmp_path: Path, text: str, match: str
):
    rules = tmp_path / "rules.toml"
    rules.write_text(text)
    said = dcz("compress", model, "--rules", rules)
    _failed(said, 2, match)
    assert str(rules) in said.err
    assert not model.with_suffix(".dcz").exists()


def _failed(said: Any, status: int, match: str) -> None:
    """A call that failed said so in a sentence, on stderr only."""
    import re

    assert (said.status, said.out) == (status, ""), said
    assert said.err.startswith("dcz: ") and said.err.count("\n") == 1, said.err
    assert re.search(match, said.err), said.err


def test_nothing_is_replaced_without_force(dcz: Any, model: Path):
    output = model.with_suffix(".dcz")
    output.write_bytes(b"mine")
    _failed(dcz("compress", model), 2, "exists: choose another output, or give --force")
    assert output.read_bytes() == b"mine"
    assert dcz("compress", model, "-f")[0] == 0
    _failed(dcz("decompress", output), 2, "model.safetensors exists")
    _failed(dcz("compress", model, "-f", "-o", model), 2, "is the input")
    _failed(dcz("extract", output, "ids", "-o", output), 2, "is the input")
    _failed(dcz("compress", model, "-o", "-"), 2, "not to a stream")


def test_leaves_that_are_not_finite_are_named(dcz: Any, tmp_path: Path):
    tree = {"a.weight": np.ones((3, 4), np.float32)}
    tree["b.weight"] = np.full((3, 4), np.nan, np.float32)
    path = tmp_path / "m.safetensors"
    checkpoints.write(path, tree)
    _failed(dcz("compress", path), 1, "leaf 'b.weight' holds NaN .* --lossless")
    assert os.listdir(tmp_path) == ["m.safetensors"]
    assert dcz("compress", path, "--skip", "b")[0] == 0
    assert dcz("compress", path, "--lossless", "-f")[0] == 0
    laws.assert_identical(dc.load(tmp_path / "m.dcz"), tree)


@pytest.mark.parametrize(
    "size",
    [
        [],
        ["--bytes", "3kB"],
        ["--bits-per-weight", "8"],
        ["--max-relative-error", ".1"],
    ],
    ids=str,
)
def test_tensors_that_are_kept_bit_for_bit(dcz: Any, tmp_path: Path, size: list[str]):
    rng = np.random.default_rng(0)
    tree = {
        "a.weight": rng.normal(size=(30, 40)).astype(np.float32),
        "b.weight": rng.normal(size=(3, 40)).astype(np.float32),
    }
    tree["b.weight"][1, 2] = np.nan
    path = tmp_path / "m.safetensors"
    checkpoints.write(path, tree)
    _failed(dcz("compress", path, *size), 1, "leaf 'b.weight' holds NaN .* --keep")
    assert dcz("compress", path, *size, "--keep", "^b").status == 0
    found = dc.load(tmp_path / "m.dcz")
    assert found["b.weight"].tobytes() == tree["b.weight"].tobytes()
    assert found["a.weight"].tobytes() != tree["a.weight"].tobytes()


def test_what_cannot_be_kept(dcz: Any, model: Path, tmp_path: Path):
    (tmp_path / "rules.toml").write_text(RULES)
    for more in (["--lossless"], ["--rules", tmp_path / "rules.toml"]):
        _failed(dcz("compress", model, *more, "--keep", "ids"), 2, "goes with neither")
    _failed(dcz("compress", model, "--keep", "none"), 2, "matches no tensor: there are")
    assert not model.with_suffix(".dcz").exists()


@pytest.mark.parametrize(
    "asked",
    [
        ["--bytes", "1"],
        ["--bytes", "1000"],
        ["--bytes", "3000"],
        ["--bits-per-weight", "0.1"],
    ],
    ids=str,
)
def test_a_size_that_cannot_be(dcz: Any, model: Path, asked: list[str]):
    said = dcz("compress", model, *asked)
    _failed(said, 2, r"takes about \d+ bytes at the least, above the \d+ .* --skip")
    least, limit = (int(word) for word in said.err.split() if word.isdecimal())
    assert least > limit and not model.with_suffix(".dcz").exists()
    assert dcz("compress", model, "--bytes", 1.02 * least).status == 0


def test_bytes_to_spare(dcz: Any, tmp_path: Path):
    """Nothing changes if they are enough; else there is a word of it."""
    model, weight = tmp_path / "m.npz", np.random.default_rng(0).normal(size=(90, 80))
    checkpoints.write(model, {"a.weight": weight.astype(np.float32)}, format="npz")
    said = dcz("compress", model, "--bytes", "40kB")
    assert (said.status, said.err) == (0, "")
    laws.assert_identical(_read(tmp_path / "m.dcz"), _read(model))
    said = dcz("compress", model, "-f", "--bytes", "20kB")
    size = (tmp_path / "m.dcz").stat().st_size
    assert (
        size < 18_000 and f"the finest grids take {size} of the 20000 bytes" in said.err
    )


def test_tensors_of_which_nothing_is_left_are_named(dcz: Any, tmp_path: Path):
    rng, model = np.random.default_rng(0), tmp_path / "m.npz"
    tree = {"zeros.weight": np.zeros((50, 40), np.float32)}
    for name, scale in (("small.weight", 1e-3), ("large.weight", 1.0)):
        tree[name] = (scale * rng.normal(size=(50, 40))).astype(np.float32)
    checkpoints.write(model, tree, format="npz")
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rule]]\npattern = "small"\n'
        'prune = {method = "by_magnitude", sparsity = 1.0}\n'
        '[[rule]]\npattern = ""\nshare = {method = "kmeans", bits = 2}\n'
    )
    said = dcz("compress", model, "--rules", rules)
    assert said.status == 0
    assert "warning: of small.weight nothing is left but zeros" in said.err


def test_weights_that_no_rule_is_for_are_named(dcz: Any, model: Path, tmp_path: Path):
    rules = tmp_path / "rules.toml"
    one = '[[rule]]\npattern = "{}"\nshare = {{method = "kmeans", bits = 4}}\n'
    rules.write_text(one.format(r"layer\\.[0-5]\\.weight"))
    said = dcz("compress", model, "--rules", rules)
    assert (
        said.status == 0
        and "no rule is for" in said.err
        and "layer.6.weight" in said.err
    )
    rules.write_text(one.format(r"^(layer|embed|tied)"))
    assert dcz("compress", model, "-f", "--rules", rules).err == ""


@pytest.mark.parametrize("option", ["--keep", "--only", None])
def test_what_no_file_can_hold_is_to_be_left_out(dcz: Any, tmp_path: Path, option: Any):
    model = tmp_path / "m.npz"
    np.savez(model, a=np.array(["text"]), b=np.ones(3))
    asked = [option, "a"] if option else ["--lossless"]
    _failed(
        dcz("compress", model, *asked), 2, "leaf 'a' is <U4: .* leave it out by --skip"
    )
    assert dcz("compress", model, "--skip", "a").status == 0


def test_what_is_no_dcz_file_is_not_decompressed(dcz: Any, model: Path):
    said = dcz("decompress", model, "-o", model.with_name("again.safetensors"))
    _failed(said, 2, "model.safetensors is no .dcz file, but safetensors")


@pytest.mark.parametrize("key", ["opt_state", "optimizer", "opt", None])
def test_a_whole_training_state_is_told_how_to_leave_it_out(
    dcz: Any, tmp_path: Path, key: str | None
):
    params = {"dense": {"kernel": np.ones((3, 4))}}
    state: dict[str, Any] = {"params": params, "step": np.int32(3)}
    if key is not None:
        state[key] = {"mu": params}
    path = tmp_path / "m.msgpack"
    checkpoints.write(path, state)
    said = dcz("compress", "--lossless", path)
    assert said.status == 0
    assert ("--only '^params/' takes" in said.err) == (key is not None)
    assert dcz("compress", "--lossless", path, "-f", "--only", "^params/").err == ""
    assert dcz("compress", "--lossless", path, "-f", "-q").err == ""


def test_a_folder_with_one_file(dcz: Any, tmp_path: Path):
    folder = tmp_path / "downloaded"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    checkpoints.write(folder / "model.safetensors", network())
    assert dcz("compress", "--lossless", folder).status == 0
    laws.assert_identical(dc.load(tmp_path / "downloaded.dcz"), network())


def test_a_file_does_not_replace_a_folder(dcz: Any, model: Path, tmp_path: Path):
    dcz("compress", "--lossless", model)
    folder = tmp_path / "folder"
    folder.mkdir()
    file = model.with_suffix(".dcz")
    for call in (
        ["compress", model, "-o", folder],
        ["decompress", file, "-o", folder, "--format", "npz"],
        ["extract", file, "ids", "-o", folder, "--format", "dcz"],
    ):
        _failed(dcz(*call, "-f"), 2, "folder is a folder, which no file replaces")
    given = "decompress", file, "-o", folder, "--format", "safetensors-sharded"
    assert dcz(*given, "-f").status == 0


def test_names_of_all_kinds(dcz: Any, tmp_path: Path):
    tree = {"x" * 1000: np.ones(3), "a/b c": np.ones(2), "\x1b[2J\n": np.zeros(5)}
    path = tmp_path / "m.safetensors"
    checkpoints.write(path, tree)
    assert dcz("compress", path)[0] == 0
    for file in (path, tmp_path / "m.dcz"):
        said = dcz("inspect", file)
        assert said.status == 0 and "\x1b" not in said.out
        assert r"\x1b[2J\n" in said.out and "a/b c" in said.out
        assert max(map(len, said.out.splitlines())) < 200
    named = {row["name"] for row in json.loads(dcz("inspect", path, "--json").out)[
        "tensors"
    ]}  # fmt: skip
    assert named == set(tree)
    back = tmp_path / "back.safetensors"
    assert dcz("decompress", tmp_path / "m.dcz", "-o", back)[0] == 0
    assert back.read_bytes() == path.read_bytes()
    checkpoints.write(path, {"ä" * 600: np.ones(3)})
    _failed(dcz("compress", path, "-f"), 1, "more than 1024 bytes")


@pytest.mark.parametrize("target", ["e.dcz", "e.safetensors", "e.npz"])
def test_extract_reads_what_it_needs(
    dcz: Any, model: Path, tmp_path: Path, target: str
):
    dcz("compress", model)
    source, output = model.with_suffix(".dcz"), tmp_path / target
    data = bytearray(source.read_bytes())
    with dc.open(source) as file:
        wanted = {
            f"layer.1.{name}": file[f"layer.1.{name}"] for name in ("weight", "bias")
        }
        expected = {name: np.asarray(leaf) for name, leaf in wanted.items()}
        stored = sum(leaf.stored_bytes for leaf in wanted.values())
        for name, leaf in file.items():  # nobody reads the others
            if name not in wanted:
                for section in leaf.entry.sections:
                    if section.checksum_bytes:
                        data[section.offset] ^= 255
    source.write_bytes(data)
    said = dcz("extract", source, r"^layer\.1\.", "-o", output)
    assert said.status == 0
    size = output.stat().st_size
    assert said.out.splitlines()[-1] == f"{output}: {size} bytes on disk"
    laws.assert_identical(_read(output), expected)
    if target == "e.dcz":  # labels are labels again, and what it came from is known
        assert size < stored + 200
        with dc.open(output) as file:
            assert file.metadata == METADATA | {"dcz.origin": "safetensors"}
    _failed(
        dcz("extract", source, "layer.99", "-o", tmp_path / "n.npz"), 2, "no tensor"
    )
    _failed(dcz("extract", source, "layer.1", "-o", tmp_path / "n"), 2, "no ending")


@pytest.mark.parametrize("verb", ["compress", "decompress", "extract", "verify"])
def test_results_as_json(dcz: Any, model: Path, tmp_path: Path, verb: str):
    output = tmp_path / "model.dcz"
    if verb != "compress":
        dcz("compress", model)
    more: list[Any] = []
    if verb == "decompress":
        output = tmp_path / "o.safetensors"
        more = ["-o", output]
    elif verb == "extract":
        output = tmp_path / "o.dcz"
        more = ["ids", "-o", output]
    source = model if verb == "compress" else model.with_suffix(".dcz")
    said = dcz(verb, source, *more, "--json")
    found = json.loads(said.out)
    assert said.status == 0 and found["input"] == str(source)
    assert found["tensors"] == (1 if verb == "extract" else len(network()))
    key = "file_bytes" if verb == "verify" else "output_bytes"
    assert found[key] == output.stat().st_size
    assert dcz(verb, source, *more, "-q", *(["-f"] if verb != "verify" else [])) == (
        0, "", "",
    )  # fmt: skip


@pytest.mark.parametrize("option", ["--bytes", "--bits-per-weight"])
def test_a_size_that_is_asked_for(dcz: Any, tmp_path: Path, option: str):
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(200, 300)).astype(np.float32)
    checkpoints.write(tmp_path / "m.npz", {"dense/kernel": kernel, "bias": np.ones(9)})
    asked = "30kB" if option == "--bytes" else 4
    assert dcz("compress", tmp_path / "m.npz", option, asked)[0] == 0
    size = (tmp_path / "m.dcz").stat().st_size
    assert 29000 < size <= (30000 if option == "--bytes" else 30004)


def test_an_error_that_is_asked_for(dcz: Any, tmp_path: Path):
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(200, 300)).astype(np.float32)
    checkpoints.write(tmp_path / "m.npz", {"dense/kernel": kernel})
    asked = ("--max-relative-error", "0.05")
    assert dcz("compress", tmp_path / "m.npz", *asked)[0] == 0
    decoded = dc.load(tmp_path / "m.dcz")["dense/kernel"]
    error = np.sqrt(np.square(decoded - kernel).sum() / np.square(kernel).sum())
    assert 0.03 < error <= 0.05


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bytes", "0"], ["--bytes", "3XB"], ["--bytes", "-3"],
        ["--bits-per-weight", "nan"], ["--bits-per-weight", "0"],
        ["--max-relative-error", "inf"], ["--max-relative-error", "1"],
        ["--only", "("], ["--skip", "."], ["--skip", "no such tensor"],
        ["--lossless", "--bytes", "3"], ["--los"],
    ],
    ids=str,
)  # fmt: skip
def test_wrong_calls(dcz: Callable[..., Any], model: Path, arguments: list[str]):
    said = dcz("compress", model, *arguments)
    assert said.status == 2 and said.out == "" and "Traceback" not in said.err
    assert os.listdir(model.parent) == ["model.safetensors"]


def test_an_ending_of_another_format_is_no_slip_of_the_pen(dcz: Any, tmp_path: Path):
    model = tmp_path / "m.npz"
    checkpoints.write(model, {"w": np.ones((4, 5), np.float32)})
    _failed(dcz("compress", model, "-o", tmp_path / "x.npz"), 2, "ends in .dcz")
    dcz("compress", model, "--lossless")
    output = tmp_path / "m.pt"
    _failed(dcz("decompress", tmp_path / "m.dcz", "-o", output), 2, "no ending that")
    assert not output.exists()


def test_what_is_left_out_counts_for_no_ratio(dcz: Any, tmp_path: Path):
    model, rng = tmp_path / "m.npz", np.random.default_rng(0)
    values = rng.normal(size=(300, 200)).astype(np.float32)
    checkpoints.write(model, {"w": values, "other": np.ones((3000, 200))})
    said = dcz("compress", model, "--only", "w")
    size = (tmp_path / "m.dcz").stat().st_size
    ratio = 240_000 / size
    assert f"1 tensors of 240000 bytes, {ratio:.2f} times" in said.out
