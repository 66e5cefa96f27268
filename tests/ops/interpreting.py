"""Triton kernels as they are on a GPU, and without one in Triton's interpreter, which runs them on plain tensors if it is switched on before Triton
is first imported."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def kernels(name: str) -> ModuleType:
    """The module `wholescene.ops.NAME_triton`, compiled or interpreted, for tensors on `DEVICE`; the test is skipped where neither can be."""
    if DEVICE == "cpu":
        if "triton" in sys.modules and not os.environ.get("TRITON_INTERPRET"):
            pytest.skip("Triton was imported before its interpreter was switched on; run this file alone")
        os.environ["TRITON_INTERPRET"] = "1"
    pytest.importorskip("triton", reason="Triton is not installed; `pip install triton` brings it (about 1 GB)")
    return importlib.import_module(f"wholescene.ops.{name}_triton")
