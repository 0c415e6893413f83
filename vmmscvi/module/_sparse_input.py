"""Inputs of an encoder that stay sparse until they are needed dense."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vmmscvi.module._sparse_counts import SparseCounts


class SparseInput:
    """A matrix of counts and covariates that passes through scvi-tools' code before the first layer.

    :class:`vmmscvi.module._sparse_linear.SparseLinear` reads the non-zero counts. Logarithm and concatenation
    keep the matrix sparse; all other operations use the dense matrix.

    Parameters
    ----------
    x
        Counts, shape ``(n, n_genes)``.
    counts
        The same counts, sparse.
    totals
        Sums over genes, shape ``(n,)``, if already computed.
    is_log1p
        Whether the matrix is the logarithm of one plus the counts.
    others
        Columns beside the counts, shapes ``(n, n_columns)``.
    """

    def __init__(
        self,
        x: Tensor,
        counts: SparseCounts,
        totals: Tensor | None = None,
        is_log1p: bool = False,
        others: tuple[Tensor, ...] = (),
    ) -> None:
        self.x, self.counts, self.totals = x, counts, totals
        self.is_log1p, self.others = is_log1p, others

    @property
    def shape(self) -> torch.Size:
        """Shape of the dense matrix."""
        return torch.Size((len(self.x), self.x.shape[1] + sum(other.shape[1] for other in self.others)))

    def dim(self) -> int:
        """Return the number of dimensions, which scvi-tools checks before every layer."""
        return 2

    def sum(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return sums of the dense matrix; arguments as in :meth:`torch.Tensor.sum`."""
        if args == (1,) and not kwargs and self.totals is not None and not (self.is_log1p or self.others):
            return self.totals
        return self.dense().sum(*args, **kwargs)

    def dense(self) -> Tensor:
        """Return the matrix, shape ``(n, n_genes + n_others)``."""
        first = self.x.log1p() if self.is_log1p else self.x
        return torch.cat((first, *self.others), dim=-1) if self.others else first

    def values(self) -> SparseCounts:
        """Return the counts on the scale of the layer's input."""
        return replace(self.counts, value=self.counts.value.log1p()) if self.is_log1p else self.counts

    def covariates(self, dtype: torch.dtype) -> Tensor:
        """Return the columns beside the counts, shape ``(n, n_others)``."""
        if not self.others:
            return self.x.new_empty((len(self.x), 0), dtype=dtype)
        return torch.cat(self.others, dim=-1).to(dtype)

    def __getattr__(self, name: str) -> Any:
        # reached only for names that are not defined here: methods of tensors
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dense(), name)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Apply a function of torch."""
        given = dict(kwargs or {})
        if func is torch.log1p and not given and not args[0].is_log1p and not args[0].others:
            return SparseInput(args[0].x, args[0].counts, is_log1p=True)
        if func is torch.cat and _appends_columns(args, given):
            first, *more = args[0]
            return SparseInput(first.x, first.counts, is_log1p=first.is_log1p, others=(*first.others, *more))
        return func(*_densified(args), **{name: _densified(value) for name, value in given.items()})


def _of_dense(name: str) -> Callable[..., Any]:
    def apply(self: SparseInput, *args: Any) -> Any:
        return getattr(self.dense(), name)(*_densified(args))

    return apply


# Python looks up operators in the class, not by `__getattr__`
for _name in ("add", "sub", "mul", "truediv", "pow"):
    for _operator in (f"__{_name}__", f"__r{_name}__"):
        setattr(SparseInput, _operator, _of_dense(_operator))
for _operator in ("__getitem__", "__len__", "__neg__", "__matmul__"):
    setattr(SparseInput, _operator, _of_dense(_operator))


def _appends_columns(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    first, *more = args[0]
    return (
        isinstance(first, SparseInput)
        and dim in (-1, 1)
        and set(kwargs) <= {"dim"}
        and all(isinstance(other, Tensor) and other.dim() == 2 for other in more)
    )


def _densified(argument: Any) -> Any:
    if isinstance(argument, SparseInput):
        return argument.dense()
    if isinstance(argument, tuple | list):
        return type(argument)(_densified(part) for part in argument)
    return argument
