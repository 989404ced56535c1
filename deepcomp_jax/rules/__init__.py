"""The one way to choose leaves: each follows the first rule that matches its name."""

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from deepcomp_jax import codings
from deepcomp_jax._errors import listed
from deepcomp_jax.streams import gaps

# Maps the leaves that follow one rule to their masks (True = kept).
PruneMethod: TypeAlias = Callable[[Sequence[jax.Array]], list[jax.Array]]
# Maps non-zero values `[n]` and their importance `[n]` (or None) to centroids `[k]`.
ShareMethod: TypeAlias = Callable[[np.ndarray, np.ndarray | None], np.ndarray]

# How many arguments each kind of method takes, and an example of one.
_METHODS = {
    "prune": (1, "prune.by_magnitude(0.8)"),
    "share": (2, "share.kmeans(bits=4)"),
}
_KEYSTR = re.compile(r"\[['\"]")  # how `jax.tree_util.keystr` writes a key


@dataclass(frozen=True)
class Rule:
    """Says how to compress the leaves whose names match a pattern.

    A leaf follows the first rule that matches its name. If none does, it is left as it
    is. Every function that chooses leaves takes a list of rules and reads the parts
    that concern it, so that one list serves `prune.masks`, `share.share`, `compress`,
    `pack`, `rate.quantize` and `budget.within_bytes`.

    Attributes:
        pattern: Regular expression that is searched anywhere in the name of a leaf,
            such as "params/fc1/kernel".
        prune: Pruning method, such as `prune.by_std(0.5)`; None keeps every weight.
        share: Sharing method, such as `share.kmeans(bits=5)`; None keeps every value.
        group: Name of a group of leaves that share one codebook, in which `\\1` stands
            for the first group of the pattern; None gives each leaf its own codebook.
        coding: How labels are written: "packed", "relative" (the paper's), "order0" or
            "grouped"; None takes the one that makes the smallest file.
        gap_bits: Width of the symbols that code positions in the relative coding, 1 to
            16; None takes the paper's 8 for convolutions (leaves of more than two
            dimensions) and 5 for dense layers.

    Raises:
        ValueError: The pattern is not a regular expression or was written like
            `keystr`; there is no such coding; `gap_bits` is out of range or comes
            without the relative coding; or there is a group without a sharing method.
        TypeError: What is given is not a method, or was not called with its settings.

    Examples:
        >>> import deepcomp_jax as dc
        >>> from deepcomp_jax import prune, share
        >>> rule = dc.Rule("kernel$", prune=prune.by_erk(0.9), share=share.kmeans(16))
        >>> dc.Rule("kernel$", share=share.kmeans)
        Traceback (most recent call last):
        TypeError: rule 'kernel$': share is the function 'kmeans', not a method that \
it returns: call it with its settings
    """

    pattern: str
    prune: PruneMethod | None = None
    share: ShareMethod | None = None
    group: str | None = None
    coding: str | None = None
    gap_bits: int | None = None

    def __post_init__(self) -> None:
        """Rejects mistakes where they are made."""
        check_pattern(self.pattern)
        for part in ("prune", "share"):
            self._check_method(part, getattr(self, part))
        if self.coding is not None and self.coding not in codings.ALL:
            raise ValueError(
                f"rule {self.pattern!r}: no coding {self.coding!r}, choose one of "
                f"{list(codings.ALL)} or None"
            )
        if self.group is not None and self.share is None:
            raise ValueError(
                f"rule {self.pattern!r}: group={self.group!r} has no effect without a "
                "sharing method: give `share` too, or leave the group out"
            )
        if self.gap_bits is not None and not (
            self.coding == "relative" and 1 <= self.gap_bits <= gaps.MAX_BITS
        ):
            raise ValueError(
                f"rule {self.pattern!r}: gap_bits={self.gap_bits} must be 1 to "
                f"{gaps.MAX_BITS}, with coding='relative'"
            )

    def _check_method(self, part: str, method: Any) -> None:
        if method is None:
            return
        if not callable(method):
            raise TypeError(
                f"rule {self.pattern!r}: {part}={method!r} is no method: give one such "
                f"as {_METHODS[part][1]}"
            )
        # A function that makes methods is known by the annotation of what it returns.
        returned = getattr(method, "__annotations__", {}).get("return")
        if returned in (PruneMethod, ShareMethod):
            raise TypeError(
                f"rule {self.pattern!r}: {part} is the function {method.__name__!r}, "
                "not a method that it returns: call it with its settings"
            )
        try:
            inspect.signature(method).bind(*[None] * _METHODS[part][0])
        except TypeError:
            raise TypeError(
                f"rule {self.pattern!r}: what is given as {part} does not take the "
                f"arguments of such a method: give one such as {_METHODS[part][1]}"
            ) from None
        except ValueError:
            return  # the signature of a function in C is not known


class Followed(NamedTuple):
    """The rule that a leaf follows.

    Attributes:
        rule: The first rule that matches the name of the leaf.
        group: Name of the group of leaves that it would share a codebook with.
    """

    rule: Rule
    group: str


def resolve(rules: Sequence[Rule], names: Collection[str]) -> dict[str, Followed]:
    """Finds the rule that each leaf follows.

    Args:
        rules: The rules, of which the first match wins.
        names: The names of all leaves.

    Returns:
        The rule of each leaf by its name, in the order of `names`, without the leaves
        that no rule matches.

    Raises:
        TypeError: `rules` is not a list of rules.
        ValueError: No leaf follows one of the rules although there are leaves, or
            the `group` of a rule refers to a group that its pattern does not have, or
            two rules share the weights of one group.
    """
    _check_rules(rules)
    patterns = [re.compile(rule.pattern) for rule in rules]
    followed: dict[str, Followed] = {}
    used: set[int] = set()
    for name in names:
        if first := first_match(patterns, name):
            number, match = first
            rule = rules[number]
            group = name if rule.group is None else expanded(match, rule.group)
            followed[name] = Followed(rule, group)
            used.add(number)
    for i, pattern in enumerate(patterns):
        if i in used or not names:
            continue
        if taken := [name for name in names if pattern.search(name)]:
            raise ValueError(
                f"rule {i + 1} of pattern {pattern.pattern!r} has no effect, since all "
                f"leaves that it matches follow rules before it ({listed(taken)}): put "
                "it in front of those, or leave it out"
            )
        raise ValueError(
            f"pattern {pattern.pattern!r} matches no leaf: there are {listed(names)}"
        )
    _check_groups(followed)
    return followed


def _check_groups(followed: Mapping[str, Followed]) -> None:
    """Checks that leaves which share a codebook are shared by one method."""
    first: dict[str, str] = {}
    for name, (rule, group) in followed.items():
        if rule.share is None:
            continue
        other = first.setdefault(group, name)
        if followed[other].rule.share is not rule.share:
            raise ValueError(
                f"group {group!r} has leaves of two rules ({name!r} and {other!r}): "
                "give the rules different groups"
            )


def first_match(
    patterns: Iterable[str | re.Pattern[str]], name: str
) -> tuple[int, re.Match[str]] | None:
    """The number of the first pattern that occurs in a name, and the match."""
    for i, pattern in enumerate(patterns):
        # `re` would look a compiled pattern up by its text, which may be long.
        own = pattern if isinstance(pattern, re.Pattern) else re.compile(pattern)
        if match := own.search(name):
            return i, match
    return None


def expanded(match: re.Match[str], template: str) -> str:
    """Fills a template, in which `\\1` stands for the first group of a match and so on.

    Raises:
        ValueError: The pattern has no such group.
    """
    try:
        return match.expand(template)
    except (re.error, IndexError) as error:
        raise ValueError(
            f"template {template!r} does not fit pattern {match.re.pattern!r}: {error}"
        ) from None


def check_pattern(pattern: Any) -> None:
    """Rejects what cannot be a pattern of names.

    Raises:
        TypeError: The pattern is not a string.
        ValueError: It is not a regular expression, or was written like `keystr`.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"the pattern of a rule is a string, got {pattern!r}")
    if _KEYSTR.search(pattern):
        raise ValueError(
            f"pattern {pattern!r} is written like jax.tree_util.keystr: names of "
            "leaves are keys joined by '/', as in 'params/fc1/kernel'"
        )
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None


def _check_rules(rules: Any) -> None:
    if isinstance(rules, Rule | str) or not isinstance(rules, Sequence):
        raise TypeError(
            f"rules are a list, as in [Rule('kernel$', ...)], got a "
            f"{type(rules).__name__}"
        )
    for rule in rules:
        if not isinstance(rule, Rule):
            raise TypeError(
                f"rules hold {rule!r}: write Rule(pattern, prune=..., share=...)"
            )
