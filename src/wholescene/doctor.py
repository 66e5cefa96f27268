"""`doctor`: what this machine and this installation have, for a bug report; it looks at everything and trips over nothing."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CORE = ("torch", "numpy", "pillow", "safetensors", "PyYAML", "cyclopts", "rich")
EXTRAS = {
    "train": ("lightning", "tensorboard"),
    "worlds": ("embreex",),
    "stereo": ("opencv-python-headless",),
    "depth": ("transformers",),
}
_MODULES = {"pillow": "PIL", "PyYAML": "yaml", "opencv-python-headless": "cv2"}
_ALSO = {"opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")}
_WITHDRAWN = {("lightning", "2.6.2"), ("lightning", "2.6.3")}  # malicious uploads; see pyproject.toml
_FEATURES = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 bf16", "amx_bf16": "AMX bf16", "asimd": "NEON", "bf16": "Arm bf16", "sve": "SVE",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        group: heading.
        name: what was looked at.
        value: what was found, in words.
        wrong: whether something should be done about it; `value` then says what.
    """

    group: str
    name: str
    value: str
    wrong: bool = False


def examine(data: Sequence[Path] = ()) -> list[Finding]:
    """Everything, in the order of printing; `data` are dataset folders to look into. Never raises: what cannot be looked at is a finding."""
    probes: tuple[tuple[str, Callable[[], list[Finding]]], ...] = (
        ("software", _software),
        ("extras", _extras),
        ("processor", _processor),
        ("accelerator", _accelerator),
        ("weights", _weights),
        ("data", lambda: [_folder(path) for path in data]),
    )
    found: list[Finding] = []
    for group, probe in probes:
        try:
            found += probe()
        except Exception as error:  # noqa: BLE001  a sick machine is what a doctor is called to: whatever fails is itself the finding
            found.append(Finding(group, "could not be looked at", f"{type(error).__name__}: {_first_line(error)}", wrong=True))
    return found


def _software() -> list[Finding]:
    import wholescene

    rows = [
        Finding("software", "wholescene", f"{wholescene.__version__} in {Path(wholescene.__file__).parent}"),
        Finding("software", "Python", f"{platform.python_version()} ({platform.python_implementation()}) in {sys.prefix}"),
        Finding("software", "system", platform.platform()),
    ]
    return rows + [_package("software", name, "pip install --force-reinstall wholescene") for name in CORE]


def _extras() -> list[Finding]:
    rows = [
        Finding("extras", f"[{extra}] {name}", found.value, found.wrong)
        for extra, names in EXTRAS.items()
        for name in names
        for found in [_package("extras", name, f"pip install 'wholescene[{extra}]'", needed=False)]
    ]
    return rows + _mixed_builds()


def _package(group: str, name: str, mend: str, needed: bool = True) -> Finding:
    """Version of an installed package that can also be imported."""
    version = next((v for n in (name, *_ALSO.get(name, ())) if (v := _version(n)) is not None), None)
    if version is None:
        return Finding(group, name, f"not installed ({mend})", wrong=needed)
    if (name, version) in _WITHDRAWN:
        return Finding(group, name, f"{version} was a malicious upload: remove it, change the passwords this machine knew, then {mend}", wrong=True)
    oldest = _oldest(name)
    if _numbers(version) < _numbers(oldest):
        return Finding(group, name, f"{version} is too old; {oldest} or later is needed ({mend})", wrong=True)
    try:
        importlib.import_module(_MODULES.get(name, name))
    except Exception as error:  # noqa: BLE001  a broken binary raises anything at import
        return Finding(group, name, f"{version}, but it cannot be imported ({_first_line(error)}): {mend}", wrong=True)
    return Finding(group, name, version)


def _mixed_builds() -> list[Finding]:
    """A CPU torch beside a CUDA torchvision breaks `import torchvision`, and with it lightning: the commonest sick installation."""
    vision = _version("torchvision")
    if vision is None:
        return []
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # noqa: BLE001  see above
        torch = _version("torch")
        return [
            Finding(
                "extras", "torchvision",
                f"{vision} does not fit torch {torch} ({_first_line(error)}); wholescene does not need it: pip uninstall torchvision", wrong=True,
            )
        ]  # fmt: skip
    return [Finding("extras", "torchvision (not needed)", vision)]


def _processor() -> list[Finding]:
    import torch

    model, flags = _cpu_facts()
    features = [word for flag, word in _FEATURES.items() if flag in flags]
    memory = _memory()
    return [
        Finding("processor", "model", model),
        Finding("processor", "cores", f"{os.cpu_count()}, of which torch uses {torch.get_num_threads()}"),
        Finding("processor", "features", ", ".join(features) or "none of note"),
        Finding("processor", "bf16", "fast" if {"avx512_bf16", "amx_bf16", "bf16"} & flags else "works, but slower than float32 here"),
        *([Finding("processor", "memory", f"{memory / 2**30:.1f} GiB")] if memory else []),
    ]


def _cpu_facts() -> tuple[str, set[str]]:
    """Model name and feature flags, from where the system tells them; empty where it does not."""
    model, flags = platform.processor() or platform.machine(), set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text(errors="replace")
        named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        listed = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
        model = named[1] if named else model
        flags = set(listed[1].split()) if listed else set()
    return model, flags


def _memory() -> int:
    """Bytes of main memory; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _accelerator() -> list[Finding]:
    import torch

    rows = [Finding("accelerator", "torch built for", _built_for(torch.version))]
    for i in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(i)
        rows.append(
            Finding("accelerator", f"cuda:{i}", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, compute capability {facts.major}.{facts.minor}")
        )
    if torch.backends.mps.is_available():
        rows.append(Finding("accelerator", "mps", "available"))
    if len(rows) == 1:
        rows.append(Finding("accelerator", "devices", "none; everything runs on the processor"))
    return rows


def _built_for(version: Any) -> str:
    if version.cuda:
        return f"CUDA {version.cuda}"
    return f"ROCm {version.hip}" if getattr(version, "hip", None) else "CPU only"


def _weights() -> list[Finding]:
    from wholescene import weights

    rows = []
    for card in weights.WEIGHTS.values():
        if card.bundled:
            path = Path(weights.__file__).parent / "bundled" / card.file
            there = path.is_file()
            said = f"{path.stat().st_size / 1e6:.1f} MB" if there else f"{path} is missing: pip install --force-reinstall wholescene"
            rows.append(Finding("weights", card.name, said, wrong=not there))
    return rows


def _folder(path: Path) -> Finding:
    if not path.is_dir():
        return Finding("data", str(path), "is not a folder; give the folder that holds `dataset/sequences`", wrong=True)
    if not os.access(path, os.R_OK | os.X_OK):
        return Finding("data", str(path), "cannot be read by this user", wrong=True)
    near = next((p for p in (path / "dataset" / "sequences", path / "sequences") if p.is_dir()), None)
    if near is None:
        return Finding(
            "data", str(path), "neither `dataset/sequences` nor `sequences` is in it; `wholescene data check` says what is nearby", wrong=True
        )  # fmt: skip
    return Finding("data", str(path), f"{sum(p.is_dir() for p in near.iterdir())} sequences in {near}; `wholescene data check {path}` looks inside")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _oldest(name: str) -> str:
    """The lowest version of a package that ours asks for, as its own metadata say; empty if it does not say (a source tree, never installed)."""
    try:
        asked = importlib.metadata.requires("wholescene") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    for line in asked:
        if re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower() == name.lower():
            found = re.search(r">=\s*([0-9.]+)", line)
            return found[1] if found else ""
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+")[0])[:3])


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no message"])[0][:160]
