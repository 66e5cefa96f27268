"""Weight files of timm into our trunks, which carry its parameter names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from wholescene.errors import InputError


def take_timm(trunk: nn.Module, state: Mapping[str, Tensor], expected: str) -> list[str]:
    """Load what the trunk holds; entries past its last tap are left.

    Args:
        trunk: with timm's names.
        state: a whole timm state dict; counters of norms may be missing (older files have none).
        expected: which file belongs here, for the message.

    Returns:
        The names of `state` that are not part of this trunk.

    Raises:
        InputError: an entry of the trunk is absent or has another shape; the first ones are named.
    """
    own = trunk.state_dict()
    counters = {n for n in own if n.endswith("num_batches_tracked") and n not in state}
    wrong = [n for n, t in own.items() if n not in counters and (n not in state or state[n].shape != t.shape)]
    if wrong:
        raise InputError(
            f"these weights do not fit the trunk: {len(wrong)} of {len(own)} entries are absent or have another shape, "
            f"first {', '.join(wrong[:3])}; use {expected}"
        )
    trunk.load_state_dict({n: own[n] if n in counters else state[n] for n in own})
    return [n for n in state if n not in own]
