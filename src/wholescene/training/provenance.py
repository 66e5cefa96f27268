"""What a number needs beside it: the machine, the versions, the date."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import torch

from wholescene import __version__


def hardware(device: torch.device | None = None) -> str:
    """The processor and its threads, or the accelerator, by name.

    Args:
        device: where the work was done; None: the CPU.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def software() -> str:
    """Versions of this package, torch and Python."""
    return f"wholescene {__version__}, torch {torch.__version__}, Python {platform.python_version()}"


def today() -> str:
    """The date, ISO."""
    return datetime.date.today().isoformat()


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
