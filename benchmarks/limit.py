"""The machine's limit for a piece of work: the sum over its operators of the larger of operations / matmul rate and bytes / copy rate.

python benchmarks/limit.py            # prints this machine's two rates
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from machine import copy_rate, matmul_rate, processor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_FREE = {"aten::empty", "aten::empty_like", "aten::new_empty", "aten::detach", "aten::alias", "aten::empty_strided"}


@dataclass(frozen=True)
class Limit:
    """What a piece of work must cost here.

    Attributes:
        seconds: sum over operators.
        operations: multiply-adds counted twice.
        bytes: tensors read and written by all operators.
        by_operator: name -> seconds, largest first.
    """

    seconds: float
    operations: int
    bytes: int
    by_operator: dict[str, float]


class _Ledger(TorchDispatchMode):
    """Notes each operator's operations and bytes; operators that only make a view cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if func.overloadpacket not in flop_registry:  # under inference mode a convolution arrives undecomposed
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        out = func(*args, **(kwargs or {}))
        if name in _FREE:
            return out
        tensors_in = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        tensors_out = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        held = {t.untyped_storage().data_ptr() for t in tensors_in}
        is_view = bool(tensors_out) and not func._schema.is_mutable and all(t.untyped_storage().data_ptr() in held for t in tensors_out)
        if is_view:
            return out
        count = flop_registry.get(func.overloadpacket)
        operations = int(count(*args, **(kwargs or {}), out_val=out)) if count else 0
        size = sum(t.numel() * t.element_size() for t in {id(t): t for t in tensors_in + tensors_out}.values())
        self.rows.append((name, operations, size))
        return out


def limit_of(work: Callable[[], object], matmul: float, copy: float) -> Limit:
    """Run `work` once and add up its operators.

    Args:
        work: runs torch operators on the CPU.
        matmul: operations a second.
        copy: bytes a second.
    """
    ledger = _Ledger()
    with ledger:
        work()
    seconds: dict[str, float] = defaultdict(float)
    for name, operations, size in ledger.rows:
        seconds[name] += max(operations / matmul, size / copy)
    ordered = dict(sorted(seconds.items(), key=lambda item: -item[1]))
    return Limit(sum(seconds.values()), sum(r[1] for r in ledger.rows), sum(r[2] for r in ledger.rows), ordered)


if __name__ == "__main__":
    print(processor())
    print(f"matrix product {matmul_rate() / 1e9:.1f} GFLOP/s, copy {copy_rate() / 1e9:.1f} GB/s")
