"""Spaces: which axes of arrays have the same units.

The units of an axis belong to a *space*: one that is not divided further (its number),
a product of spaces (a flattened image, heads times their width; the last one runs
fastest), or a sum of spaces (what was concatenated). An axis of size 1 is an empty
product. Two axes whose units belong together are unified: a whole space becomes what
the other one is made of, everywhere at once.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np


class Product(NamedTuple):
    """Every pair, triple, ... of units of other spaces."""

    factors: tuple["Space", ...]


class Sum(NamedTuple):
    """The units of one space after those of another one."""

    parts: tuple["Space", ...]


Space: TypeAlias = int | Product | Sum

ONE = Product(())


class Spaces:
    """All spaces of a program, what has become of them, and which must not be cut."""

    def __init__(self):
        self.sizes: list[int] = []
        self.bound: dict[int, Space] = {}
        self.pinned: dict[int, str] = {}

    def new(self, size: int) -> Space:
        """A space that nothing is known of yet."""
        if size == 1:
            return ONE
        self.sizes.append(size)
        return len(self.sizes) - 1

    def fixed(self, size: int, reason: str) -> Space:
        """A new space that is never cut."""
        space = self.new(size)
        self.pin(space, reason)
        return space

    def size(self, space: Space) -> int:
        """How many units there are."""
        return self.measure(space, lambda part: self.sizes[part])

    def measure(self, space: Space, of: Callable[[int], int]) -> int:
        """How many units there are if `of` says how many undivided spaces have."""
        space = self.resolve(space)
        if isinstance(space, int):
            return of(space)
        if isinstance(space, Product):
            return prod(self.measure(factor, of) for factor in space.factors)
        return sum(self.measure(part, of) for part in space.parts)

    def resolve(self, space: Space) -> Space:
        """What a space has become, with products in products and the like flattened."""
        if isinstance(space, int):
            return self.resolve(self.bound[space]) if space in self.bound else space
        if isinstance(space, Product):
            own = (_factors(self.resolve(x)) for x in space.factors)
            factors = tuple(factor for inner in own for factor in inner)
            return factors[0] if len(factors) == 1 else Product(factors)
        inner = (_parts(self.resolve(x)) for x in space.parts if self.size(x))
        parts = tuple(part for own in inner for part in own)
        return parts[0] if len(parts) == 1 else Sum(parts)

    def atoms(self, space: Space) -> list[int]:
        """The undivided spaces that a space is made of."""
        space = self.resolve(space)
        if isinstance(space, int):
            return [space]
        inner = space.factors if isinstance(space, Product) else space.parts
        return [atom for part in inner for atom in self.atoms(part)]

    def pin(self, space: Space, reason: str) -> None:
        """Says that no unit of a space may be cut, and why; the first reason stays."""
        for atom in self.atoms(space):
            self.pinned.setdefault(atom, reason)

    def bind(self, atom: int, space: Space) -> None:
        """Makes an undivided space what another one is."""
        if atom in self.pinned:
            self.pin(space, self.pinned[atom])
        self.bound[atom] = space

    def unify(self, a: Space, b: Space, reason: str) -> None:
        """Makes two spaces of equal size one; pins both if they are divided otherwise.

        Args:
            a: A space.
            b: Another one.
            reason: The primitive where they meet, for those that must be pinned.
        """
        a, b = self.resolve(a), self.resolve(b)
        if a == b:
            return
        if isinstance(a, int) and a not in self.atoms(b):
            self.bind(a, b)
        elif isinstance(b, int) and b not in self.atoms(a):
            self.bind(b, a)
        elif not self._unify_divided(a, b, reason):
            self.pin(a, reason)
            self.pin(b, reason)

    def _unify_divided(self, a: Space, b: Space, reason: str) -> bool:
        if isinstance(a, Product) and isinstance(b, Product):
            sizes = _common(
                [self.size(x) for x in a.factors], [self.size(x) for x in b.factors]
            )
            if sizes is None:
                return False
            left, right = self.regroup([a], sizes), self.regroup([b], sizes)
            if left is None or right is None:
                return False
            for x, y in zip(left, right, strict=True):
                self.unify(x, y, reason)
            return True
        if isinstance(a, Sum) and isinstance(b, Sum):
            return self._unify_sums(a, b, reason)
        if isinstance(a, Product):
            a, b = b, a
        if not isinstance(a, Sum) or not isinstance(b, Product):
            return False
        return self._unify_repeated(a, b, reason)

    def _unify_sums(self, a: Sum, b: Sum, reason: str) -> bool:
        ends = sorted({*self._ends(a), *self._ends(b)})
        left, right = self.cut(a, ends[:-1]), self.cut(b, ends[:-1])
        if left is None or right is None:
            return False
        for x, y in zip(left, right, strict=True):
            self.unify(x, y, reason)
        return True

    def _unify_repeated(self, a: Sum, b: Product, reason: str) -> bool:
        """Equal spaces after each other are a product with a space of their number."""
        count = len(a.parts)
        if len({self.size(part) for part in a.parts}) > 1:
            return False
        divided = self.regroup([b], [count, self.size(a) // count])
        if divided is None:
            return False
        self.pin(divided[0], reason)
        for part in a.parts:
            self.unify(part, divided[1], reason)
        return True

    def _ends(self, space: Sum) -> list[int]:
        return [int(end) for end in np.cumsum([self.size(x) for x in space.parts])]

    def regroup(
        self, spaces: Sequence[Space], sizes: Sequence[int]
    ) -> list[Space] | None:
        """Divides axes into others as a reshape does, or None if it cuts across them.

        Args:
            spaces: Those of the axes before the reshape.
            sizes: Of the axes after it.
        """
        whole = self.resolve(Product(tuple(spaces)))
        rest: list[Space] = list(_factors(whole))
        found: list[Space] = []
        for size in sizes:
            taken: list[Space] = []
            while size > 1:
                if not rest:
                    return None
                factor = self.resolve(rest.pop(0))
                if isinstance(factor, Product):
                    rest[:0] = factor.factors
                    continue
                have = self.size(factor)
                if have > size and isinstance(factor, int) and have % size == 0:
                    parts = Product((self.new(size), self.new(have // size)))
                    self.bind(factor, parts)
                    rest[:0] = parts.factors
                    continue
                if size % have:
                    return None
                taken.append(factor)
                size //= have
            found.append(self.resolve(Product(tuple(taken))))
        return found

    def cut(self, space: Space, places: Sequence[int]) -> list[Space] | None:
        """Divides a space before some places into a sum, or None if that is impossible.

        Args:
            space: The space.
            places: Rising numbers of units, each above 0 and below the size.
        """
        found: list[Space] = []
        done = 0
        for place in places:
            halves = self._halves(space, place - done)
            if halves is None:
                return None
            found.append(halves[0])
            space, done = halves[1], place
        return [*found, space]

    def _halves(self, space: Space, place: int) -> tuple[Space, Space] | None:
        space = self.resolve(space)
        if isinstance(space, int):
            halves = self.new(place), self.new(self.sizes[space] - place)
            self.bind(space, Sum(halves))
            return halves
        if isinstance(space, Sum):
            before: list[Space] = []
            for i, part in enumerate(space.parts):
                size = self.size(part)
                if place <= size:
                    after = space.parts[i + 1 :]
                    if place == size:
                        return Sum((*before, part)), Sum(after)
                    inner = self._halves(part, place)
                    return inner and (
                        Sum((*before, inner[0])),
                        Sum((inner[1], *after)),
                    )
                before.append(part)
                place -= size
            return None
        first, *others = space.factors
        below = prod(self.size(factor) for factor in others)
        if place % below:
            return None
        inner = self._halves(first, place // below)
        return inner and (
            Product((inner[0], *others)),
            Product((inner[1], *others)),
        )


def inner(space: Product | Sum) -> tuple[Space, ...]:
    """What a space is made of."""
    return space.factors if isinstance(space, Product) else space.parts


def _factors(space: Space) -> tuple[Space, ...]:
    return space.factors if isinstance(space, Product) else (space,)


def _parts(space: Space) -> tuple[Space, ...]:
    return space.parts if isinstance(space, Sum) else (space,)


def _common(a: Sequence[int], b: Sequence[int]) -> list[int] | None:
    """Factors of which both of two factorizations are made, outermost first."""
    left, right, found = list(a), list(b), []
    while left and right:
        if left[0] < right[0]:
            left, right = right, left
        if left[0] % right[0]:
            return None
        found.append(right.pop(0))
        left[0] //= found[-1]
        if left[0] == 1:
            left.pop(0)
    return found


def blocks(before: Sequence[int], after: Sequence[int]) -> list[tuple[slice, slice]]:
    """The fewest axes in a row that a reshape makes fewest others of."""
    found: list[tuple[slice, slice]] = []
    i = j = start = first = 0
    while i < len(before) or j < len(after):
        left, right = prod(before[start:i]), prod(after[first:j])
        if left == right and i > start and j > first:
            found.append((slice(start, i), slice(first, j)))
            start, first = i, j
        elif j == len(after) or (i < len(before) and left <= right):
            i += 1
        else:
            j += 1
    return [*found, (slice(start, i), slice(first, j))]
