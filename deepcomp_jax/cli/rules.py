"""Rules from a file of TOML, which names methods and their settings.

[[rule]]
pattern = "kernel$"
prune = { method = "by_magnitude", sparsity = 0.8 }
share = { method = "kmeans", bits = 4 }
coding = "grouped"
"""

import inspect
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from deepcomp_jax import prune, rate, share
from deepcomp_jax.cli.common import UsageError
from deepcomp_jax.rules import PruneMethod, Rule, ShareMethod

_PRUNE: dict[str, Callable[..., PruneMethod]] = {
    "by_magnitude": prune.by_magnitude,
    "by_global_magnitude": prune.by_global_magnitude,
    "by_erk": prune.by_erk,
    "by_std": prune.by_std,
}
_SHARE: dict[str, Callable[..., ShareMethod]] = {
    "kmeans": share.kmeans,
    "lloyd": share.lloyd,
    "nonparametric": share.nonparametric,
    "uniform": share.uniform,
    "grid": rate.grid,
}
_WITHOUT_SETTINGS: dict[str, ShareMethod] = {"distinct": share.distinct}
_KEYS = "pattern", "prune", "share", "group", "coding", "gap_bits"


def read_rules(path: Path) -> list[Rule]:
    """The rules of a file.

    Raises:
        UsageError: It is no TOML, or a rule is none; says which.
        OSError: There is no such file.
    """
    try:
        found = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from None
    if list(found) != ["rule"] or not isinstance(found["rule"], list):
        raise UsageError(f"{path} must have tables [[rule]] and nothing else")
    rules = []
    for number, table in enumerate(found["rule"], 1):
        try:
            rules.append(_rule(table))
        except (TypeError, ValueError) as error:
            raise UsageError(f"{path}, rule {number}: {error}") from None
    return rules


def _rule(table: dict[str, Any]) -> Rule:
    if strange := sorted(table.keys() - set(_KEYS)):
        raise ValueError(f"there is no key {strange[0]!r}, only {', '.join(_KEYS)}")
    if "pattern" not in table:
        raise ValueError("it has no pattern")
    settings = dict(table)
    if "prune" in table:
        settings["prune"] = _method("prune", table["prune"], _PRUNE)
    if "share" in table:
        given = table["share"]
        name = given.get("method") if isinstance(given, dict) else given
        if name in _WITHOUT_SETTINGS:
            settings["share"] = _WITHOUT_SETTINGS[name]
        else:
            settings["share"] = _method("share", given, _SHARE, _WITHOUT_SETTINGS)
    return Rule(**settings)


def _method(
    part: str,
    given: Any,
    known: dict[str, Callable[..., Any]],
    others: Collection[str] = (),
) -> Any:
    """A method with its settings; `others` have none."""
    example, every = next(iter(known)), ", ".join([*known, *others])
    if not isinstance(given, dict) or given.get("method") not in known:
        raise ValueError(
            f"{part} is {given!r}: write a table such as "
            f"{{ method = {example!r}, ... }} with one of {every}"
        )
    settings = {key: value for key, value in given.items() if key != "method"}
    make = known[given["method"]]
    try:
        inspect.signature(make).bind(**settings)
    except TypeError as error:
        wanted = ", ".join(inspect.signature(make).parameters)
        raise ValueError(f"{part}: {error}; {given['method']} takes {wanted}") from None
    return make(**settings)
