"""Which parameters move, how far, and their moving average."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from wholescene.errors import InputError
from wholescene.recipes.recipe import Optimiser


def freeze(system: nn.Module, patterns: Sequence[str]) -> None:
    """Stop the gradients of parameters whose names match; batch norms that hold only such parameters stay in eval mode (`freeze_statistics`).

    Raises:
        InputError: a pattern that matches nothing, or nothing left to train.
    """
    named = dict(system.named_parameters())
    for pattern in patterns:
        for name in _matching(pattern, named, "frozen"):
            named[name].requires_grad_(False)
    if not any(p.requires_grad for p in named.values()):
        raise InputError(f"frozen: {list(patterns)} leaves no parameter to train")


def freeze_statistics(system: nn.Module) -> None:
    """Put batch norms in eval mode all of whose own parameters are frozen."""
    for module in system.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and own and not any(p.requires_grad for p in own):
            module.eval()


def make_optimiser(system: nn.Module, optimiser: Optimiser) -> tuple[torch.optim.Optimizer, list[float]]:
    """The optimiser, and the learning rate of each of its parameter groups before any schedule.

    Raises:
        InputError: a pattern that matches no parameter, of a group that is not optional.
    """
    named = {_plain_name(name): p for name, p in system.named_parameters() if p.requires_grad}
    every = {_plain_name(name) for name, _ in system.named_parameters()}
    chosen = {group: set(_matching(group.pattern, every, "optimiser.groups", group.optional)) for group in optimiser.groups}
    gathered: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        factor, decay = 1.0, True
        for group, names in chosen.items():
            if name in names:
                factor, decay = factor * group.lr_factor, decay and group.decay
        gathered.setdefault((factor, decay), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "lr": optimiser.lr * factor, "weight_decay": optimiser.weight_decay if decay else 0.0}
        for (factor, decay), parameters in gathered.items()
    ]
    rates = [group["lr"] for group in groups]
    if optimiser.name == "sgd":
        return torch.optim.SGD(groups, optimiser.lr, momentum=optimiser.betas[0]), rates
    kind = torch.optim.AdamW if optimiser.name == "adamw" else torch.optim.Adam
    return kind(groups, optimiser.lr, betas=optimiser.betas, eps=optimiser.eps), rates


def _plain_name(name: str) -> str:
    """Without what a sharding strategy puts between."""
    return name.replace("_fsdp_wrapped_module.", "").replace("_checkpoint_wrapped_module.", "")


def _matching(pattern: str, names: Any, where: str, optional: bool = False) -> list[str]:
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found and not optional:
        parts = sorted({name.split(".")[0] for name in names})
        raise InputError(
            f"{where}: the pattern {pattern!r} matches no parameter; they begin with {', '.join(parts)}, so write for example '{parts[0]}.*'"
        )
    return found


class MovingAverage:
    """The exponential moving average of weights and of batch norms' statistics (what else a state holds is copied).

    The decay starts low and reaches its value as steps go by: min(decay, (1 + steps) / (10 + steps)).

    Args:
        system: whose state is averaged.
        decay: close to 1.
    """

    def __init__(self, system: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.average = {name: value.detach().clone() for name, value in _state(system).items()}

    @torch.no_grad()
    def update(self, system: nn.Module) -> None:
        """After an optimiser step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        state = _state(system)
        moving = [n for n, v in state.items() if v.is_floating_point()]
        if not all(self.average[n].device == state[n].device for n in moving):
            self.average = {n: v.to(state[n].device) for n, v in self.average.items()}
        torch._foreach_lerp_([self.average[n] for n in moving], [state[n] for n in moving], 1 - decay)  # type: ignore[attr-defined]
        for name in state.keys() - set(moving):
            self.average[name].copy_(state[name])

    @contextlib.contextmanager
    def in_place(self, system: nn.Module) -> Iterator[None]:
        """The system with the averaged state inside the block, with its own again after it."""
        state = _state(system)
        own = {name: value.detach().clone() for name, value in state.items()}
        _copy(self.average, state)
        try:
            yield
        finally:
            _copy(own, state)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.steps = int(state["steps"])
        self.average = {name: state["average"][name].clone() for name in self.average}


def _state(system: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in system.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


@torch.no_grad()
def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    for name, value in target.items():
        value.copy_(source[name])
