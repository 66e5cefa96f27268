"""Lovász-softmax on a whole street: time, memory and error of the closed form beside the usual cumulative differences in float32.

python benchmarks/lovasz.py [--grid 256,256,32] [--classes 20]
"""

from __future__ import annotations

import argparse

import torch
from machine import best_of, processor
from torch import Tensor

from wholescene.lovasz import _class_loss, lovasz_softmax
from wholescene.training.anytime import begin_peak, peak_of


def usual(logits: Tensor, labels: Tensor) -> Tensor:
    """As most code has it: probabilities of all classes, one sort a class, float32 differences of cumulative sums."""
    p, y, losses = torch.softmax(logits, 1).movedim(1, -1).reshape(-1, logits.shape[1]), labels.reshape(-1), []
    for k in labels.unique().tolist():
        foreground = (y == k).to(p.dtype)
        errors, order = torch.sort((foreground - p[:, k]).abs(), 0, descending=True)
        losses.append(torch.dot(errors, usual_weights(foreground[order])))
    return torch.stack(losses).mean()


def usual_weights(hit: Tensor) -> Tensor:
    """Differences of the Jaccard loss along sorted foreground flags (n,)."""
    total = hit.sum()
    jaccard = 1 - (total - hit.cumsum(0)) / (total + (1 - hit).cumsum(0))
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])


def weight_errors(n: int, share: float) -> tuple[float, float, float]:
    """Relative error of a class's weights, median: usual in float32, closed form in float32; and share of usual weights that are exactly 0."""
    torch.manual_seed(0)
    p, foreground = torch.rand(n), torch.rand(n) < share
    errors = torch.where(foreground, 1 - p, p)
    order = torch.sort(errors, descending=True, stable=True).indices
    exact = usual_weights(foreground[order].double())
    closed = _class_loss(p, foreground)[1].abs()[order].double()
    plain = usual_weights(foreground[order].float()).double()
    counts = exact > 1e-18
    errors_of = [((w - exact).abs()[counts] / exact[counts]).median().item() for w in (plain, closed)]
    return errors_of[0], errors_of[1], (plain[counts] == 0).double().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--grid", default="256,256,32")
    parser.add_argument("--classes", type=int, default=20)
    given = parser.parse_args()
    X, Y, Z = (int(n) for n in given.grid.split(","))
    print(f"{processor()}; {X}x{Y}x{Z} voxels, {given.classes} classes")
    for share in (0.05, 0.0005):
        plain, closed, zero = weight_errors(X * Y * Z, share)
        said = f"usual float32 {plain:.1%} ({zero:.0%} of them exactly 0), closed float32 {closed:.1e}"
        print(f"median relative error of weights, {share:.2%} foreground: {said}")
    torch.manual_seed(0)
    labels = torch.multinomial(torch.tensor([0.9, *[0.1 / (given.classes - 1)] * (given.classes - 1)]), X * Y * Z, replacement=True)
    labels = labels.view(1, X, Y, Z)
    logits = torch.randn(1, given.classes, X, Y, Z, requires_grad=True)
    for name, function in (("usual", usual), ("closed", lovasz_softmax)):

        def step(function: object = function) -> None:
            torch.autograd.grad(function(logits, labels), logits)  # type: ignore[operator]

        taken = best_of(step, 1)
        begin_peak(logits.device)
        before = peak_of(logits.device)
        step()
        print(f"{name}: {taken:.2f} s a step, {(peak_of(logits.device) - before) / 2**20:,.0f} MiB beside the logits", flush=True)


if __name__ == "__main__":
    main()
