"""A loss that is not finite ends the run, and the message says which term, which frames, and what to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from wholescene.errors import InputError
from wholescene.structures import Batch
from wholescene.systems.base import System

_TRY = "try a lower optimiser.lr, clip: 1.0, or precision: 32-true"


def check_terms(system: System, terms: Mapping[str, Tensor], batch: Batch) -> None:
    """Nothing, if all loss terms are finite.

    Raises:
        InputError: naming the terms, the frames of the batch that make them so on their own, and what to try.
    """
    if bool(torch.isfinite(torch.stack([t.detach().float() for t in terms.values()])).all()):
        return
    found = ", ".join(f"{name} ({float(term.detach()):g})" for name, term in terms.items() if not torch.isfinite(term).all())
    broken = [name for name, p in system.named_parameters() if not torch.isfinite(p).all()]
    if broken:
        raise InputError(
            f"loss term {found} is not finite at frame {_list(batch.names)}, because weights are not ({_list(broken)}): "
            f"an earlier step was too large; {_TRY}"
        )
    guilty = [name for i, name in enumerate(batch.names) if not _finite_alone(system, _only(batch, i), terms)]
    raise InputError(
        f"loss term {found} is not finite at frame {_list(guilty or batch.names)}; look at the frame's picture, camera and target "
        f"(`wholescene data check`), leave it out with data.exclude, or {_TRY}"
    )


def check_gradients(system: System, batch: Batch) -> None:
    """Nothing, if all gradients are finite: so that a term whose gradient is not cannot reach the weights.

    Raises:
        InputError: naming the terms that make them so, the frames, a parameter, and what to try.
    """
    gradients = [p.grad for p in system.parameters() if p.grad is not None]
    if not gradients or bool(torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all()):  # type: ignore[attr-defined]  # public in torch.nn.utils only
        return
    broken = [n for n, p in system.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    if not broken:
        return  # the norm overflowed, the gradients did not
    terms = [name for name in system.losses(system(batch), batch) if not _gradient_finite(system, batch, name)]
    raise InputError(
        f"the gradient of loss term {_list(terms) or 'none alone, of their sum'} is not finite at frame {_list(batch.names)} "
        f"(first at the parameter {broken[0]}); the loss itself is; {_TRY}"
    )


def _gradient_finite(system: System, batch: Batch, name: str) -> bool:
    term = system.losses(system(batch), batch)[name]
    if not term.requires_grad:
        return True
    parameters = [p for p in system.parameters() if p.requires_grad]
    return all(g is None or bool(torch.isfinite(g).all()) for g in torch.autograd.grad(term, parameters, allow_unused=True))


@torch.no_grad()
def _finite_alone(system: System, batch: Batch, terms: Mapping[str, Tensor]) -> bool:
    """Whether the terms that are not finite in the whole batch are finite for a part of it."""
    alone = system.losses(system(batch), batch)
    return all(bool(torch.isfinite(alone[name]).all()) for name, term in terms.items() if not torch.isfinite(term).all() and name in alone)


def _only(batch: Batch, i: int) -> Batch:
    """Frame i of a batch as a batch."""

    def taken(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: taken(v) for k, v in value.items()}
        return None if value is None else value[i : i + 1]

    return replace(batch, **{f.name: taken(getattr(batch, f.name)) for f in fields(batch) if f.init and f.name != "_memo"}, _memo={})


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
