"""What a GPU answers is what a CPU answers: every system of the table at size tiny, every Triton kernel, also beyond 32 bits, and a training run.

Products and convolutions are at full precision here (no TF32), so that the two can be compared.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import small_frames
from wholescene.ops.deformable import deformable_sampling
from wholescene.ops.deformable import reference as deformable_reference
from wholescene.ops.depth_deformable import depth_aware_sampling
from wholescene.ops.depth_deformable import reference as depth_aware_reference
from wholescene.ops.neighbours import links_of_mask
from wholescene.ops.selective_scan import selective_scan
from wholescene.ops.sparse_conv import sparse_conv
from wholescene.systems import config_class, create, list_systems
from wholescene.systems.base import System

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

big = pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory < 70 * 2**30, reason="takes more memory than this device has"
)
SYSTEMS = [(name, conventions) for name in list_systems() if name != "dial" for conventions in ("clean", "exact")]


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    told = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = told


def tiny(name: str, conventions: str) -> System:
    """Without what is random in training, which differs between devices."""
    torch.manual_seed(0)
    system = create(name, config_class(name).preset(conventions, "tiny", grid=small_frames.GRID))  # type: ignore[attr-defined]
    for module in system.modules():
        for chance in ("p", "dropout", "share"):
            if isinstance(getattr(module, chance, None), float):
                setattr(module, chance, 0.0)
    return system


def on_gpu(system: System) -> System:
    """The same, its volumes' weights laid out as the training module lays them."""
    system = system.cuda()
    for parameter in system.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return system


@pytest.mark.parametrize(("name", "conventions"), SYSTEMS)
def test_a_system_answers_as_on_a_cpu(name: str, conventions: str) -> None:
    system = tiny(name, conventions).eval()
    batch = small_frames.batch(system, 0, 1)
    with torch.inference_mode():
        expected = system(batch).logits
        found = system.cuda()(batch.to("cuda")).logits.cpu()
    assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()


@pytest.mark.parametrize(("name", "conventions"), SYSTEMS)
def test_a_training_step_has_the_losses_of_a_cpu_and_finite_gradients(name: str, conventions: str) -> None:
    system = tiny(name, conventions).train()
    batch = small_frames.batch(system, 0, 1)
    state = {key: value.clone() for key, value in system.state_dict().items()}
    with torch.no_grad():
        expected = system.losses(system(batch), batch)
    system.load_state_dict(state)  # statistics of norms moved
    found = _stepped(on_gpu(system), batch.to("cuda"))
    for term, value in expected.items():
        assert float(found[term]) == pytest.approx(float(value), rel=1e-3, abs=1e-4), term


@pytest.mark.parametrize("name", sorted({name for name, _ in SYSTEMS}))
def test_a_training_step_in_bfloat16_is_finite(name: str) -> None:
    system = on_gpu(tiny(name, "clean").train())
    _stepped(system, small_frames.batch(system, 0, 1).to("cuda"), torch.bfloat16)


def _stepped(system: System, batch: object, precision: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The loss terms, after a backward pass of which all gradients are finite."""
    with torch.autocast("cuda", precision, enabled=precision != torch.float32):
        terms = system.losses(system(batch), batch)  # type: ignore[arg-type]
    assert all(torch.isfinite(term) for term in terms.values())
    sum(terms.values()).backward()  # type: ignore[union-attr]
    broken = [n for n, p in system.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    assert not broken
    return {name: term.detach().cpu() for name, term in terms.items()}


def _near(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert (found.double().cpu() - expected.double().cpu()).abs().max() <= tolerance * max(1e-6, float(expected.detach().abs().max()))


def _compare(fast: Callable[..., Tensor], slow: Callable[..., Tensor], inputs: list[Tensor], tolerance: float = 1e-4) -> None:
    """Both forward and every gradient, the slow one in float64."""
    given = [t.detach().requires_grad_() for t in inputs]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    found, expected = fast(*given), slow(*exact)
    to_out = torch.randn_like(found)
    _near(found, expected, tolerance)
    slopes = torch.autograd.grad(expected, exact, to_out.double())
    for one, other in zip(torch.autograd.grad(found, given, to_out), slopes, strict=True):
        _near(one, other, tolerance)


def _places(count: tuple[int, ...], cells: tuple[int, ...]) -> Tensor:
    """Places in and around a map, none where slopes jump: not within a tenth of a cell of a centre."""
    sizes = torch.tensor(cells, device="cuda")
    lowest = torch.floor(torch.rand(*count, len(cells), device="cuda") * (sizes + 3)) - 2
    return (lowest + 0.6 + 0.8 * torch.rand(*count, len(cells), device="cuda")) / sizes


@pytest.mark.parametrize("shapes", [((24, 77),), ((47, 153), (24, 77), (12, 39)), ((32, 32, 4),)])
def test_deformable_sampling_is_the_reference(shapes: tuple[tuple[int, ...], ...]) -> None:
    torch.manual_seed(0)
    cells, axes = sum(math.prod(s) for s in shapes), len(shapes[0])
    value, weights = torch.randn(2, cells, 4, 16, device="cuda"), torch.rand(2, 501, 4, len(shapes), 4, device="cuda")
    locations = torch.stack([_places((2, 501, 4, 4), tuple(reversed(shape))) for shape in shapes], 3)
    assert locations.shape[-1] == axes
    _compare(lambda v, p, w: deformable_sampling(v, shapes, p, w), lambda v, p, w: deformable_reference(v, shapes, p, w), [value, locations, weights])


def test_depth_aware_sampling_is_the_reference() -> None:
    torch.manual_seed(0)
    value, depth = torch.randn(2, 24 * 40, 4, 16, device="cuda"), torch.randn(2, 56, 24, 40, device="cuda").softmax(1)
    locations, weights = _places((2, 501, 4, 8), (40, 24, 56)), torch.rand(2, 501, 4, 8, device="cuda")
    _compare(depth_aware_sampling, depth_aware_reference, [value, depth, locations, weights])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("channels", "groups"), [(50, 1), (64, 2)])
def test_selective_scan_is_the_recurrence(channels: int, groups: int, reverse: bool) -> None:
    from wholescene.ops.selective_scan import reference

    torch.manual_seed(0)
    tokens = [torch.randn(2, 300, channels, device="cuda"), torch.randn(2, 300, channels, device="cuda") - 2]
    said = [torch.randn(2, 300, groups, 16, device="cuda") for _ in range(2)]
    A = -torch.rand(channels, 16, device="cuda") * 8
    fast = lambda u, dt, A, B, C: selective_scan(u, dt, A, B, C, reverse=reverse)[0]  # noqa: E731
    slow = lambda u, dt, A, B, C: reference(u, dt, A, B, C, reverse=reverse)[0]  # noqa: E731
    _compare(fast, slow, [*tokens, A, *said])


@pytest.mark.parametrize("width", [16, 50, 128])
def test_sparse_convolution_is_the_dense_one(width: int) -> None:
    torch.manual_seed(0)
    mask = torch.rand(2, 16, 16, 8, device="cuda") < 0.3
    links = links_of_mask(mask)
    inputs = [torch.randn(links.inputs, width, device="cuda"), torch.randn(width, width, 3, 3, 3, device="cuda"), torch.randn(width, device="cuda")]
    _compare(lambda f, w, b: sparse_conv(f, w, b, links, "gather"), lambda f, w, b: sparse_conv(f, w, b, links, "pairs"), inputs)


@big
def test_deformable_sampling_of_more_numbers_than_32_bits_count() -> None:
    """The last of 2^31 + 2^21 numbers of the map are read, and those of the queries' answers written, where they lie."""
    X, channels = 2**13 + 8, 256
    value = torch.zeros(1, X * 1024, 1, channels, dtype=torch.float32, device="cuda")
    value[0, -1] = torch.arange(float(channels), device="cuda")
    corner = torch.tensor([(1024 - 0.5) / 1024, (X - 0.5) / X], device="cuda").expand(1, 40, 1, 1, 1, 2)
    found = deformable_sampling(value, ((X, 1024),), corner, torch.ones(1, 40, 1, 1, 1, device="cuda"))
    torch.testing.assert_close(found, value[:, -1:].expand(1, 40, 1, channels), rtol=1e-2, atol=1e-2)


@big
def test_sparse_convolution_of_more_numbers_than_32_bits_count() -> None:
    rows, width = 2**25 + 128, 64
    mask = torch.ones(1, rows // 64, 8, 8, dtype=torch.bool, device="cuda")
    links = links_of_mask(mask, (1, 1, 1))
    features = torch.zeros(rows, width, device="cuda")
    features[-1] = torch.arange(float(width), device="cuda")
    found = sparse_conv(features, torch.eye(width, device="cuda").view(width, width, 1, 1, 1), None, links, "gather")
    assert torch.equal(found[-1], features[-1])
    assert not found[:-1].any()


@big
def test_a_scan_of_more_numbers_than_32_bits_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the last tokens are 0; a chunk's states are kept, 2^31 of them and more."""
    monkeypatch.setattr(importlib.import_module("wholescene.ops.selective_scan_triton"), "_TOKENS", 16)
    L, channels, states = 16 * 4200, 1024, 512  # chunks times channels times states
    u = torch.zeros(1, L, channels, device="cuda")
    u[:, -2:] = 1
    B = torch.zeros(1, L, 1, states, device="cuda")
    B[..., 0] = 1
    with torch.no_grad():
        y, last = selective_scan(u, u, -torch.ones(channels, states, device="cuda"), B, B)
    alone, state = selective_scan(u[:, -2:], u[:, -2:], -torch.ones(channels, states, device="cuda"), B[:, -2:], B[:, -2:])
    _near(y[:, -2:], alone)
    _near(last, state)


def test_a_run_on_a_gpu_trains_and_is_scored(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from dial import Forged, recipe

    from wholescene.training.run import train

    data = {"train": Forged(4), "val": Forged(3, 100)}
    made = train(recipe(ema=0.9, precision="bf16-mixed", trainer={"accelerator": "gpu", "devices": 1}), tmp_path, datasets=data)
    assert made.steps > 0
    assert made.evaluation is not None
