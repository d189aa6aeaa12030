"""Train MobileNetV3-Small on Fashion-MNIST, on a CPU.

    python train.py --checkpoint mobilenet_v3_small.pt

The checkpoint is written after every epoch; the same command resumes from it. Each
epoch draws from its own seed, so a resumed run sees the same batches as an unbroken one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from data import add_data_argument, load_split, preprocess
from model import MobileNetV3Small


def augment(
    images: NDArray[np.uint8], shift: int, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Flip half of uint8 [N, 28, 28] left to right; move each by up to `shift` pixels each way."""
    count, height, width = images.shape
    flipped = np.where(random.random((count, 1, 1)) < 0.5, images[:, :, ::-1], images)
    padded = np.pad(flipped, ((0, 0), (shift, shift), (shift, shift)))
    top, left = random.integers(0, 2 * shift + 1, (2, count, 1))
    rows = top + np.arange(height)
    columns = left + np.arange(width)
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def to_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """Preprocess uint8 [N, 28, 28] into float32 [N, 3, 64, 64], channels last in memory."""
    return torch.from_numpy(preprocess(images)).contiguous(memory_format=torch.channels_last)


def accuracy(
    model: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64], batch: int = 250
) -> float:
    """Top-1 accuracy, 0..1, of `model` on uint8 images [N, 28, 28]."""
    model.eval()
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            predicted = model(to_tensor(images[start : start + batch])).argmax(1).numpy()
            correct += int((predicted == labels[start : start + batch]).sum())
    return correct / len(images)


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: OneCycleLR,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    batch: int,
    shift: int,
    smoothing: float,
    seed: tuple[int, int],
    bfloat16: bool,
) -> float:
    """Run one epoch; `seed` is (the run's seed, the epoch). Returns the mean loss, in nats."""
    model.train()
    random = np.random.default_rng(seed)
    torch.manual_seed(int(random.integers(2**31)))
    loss_function = nn.CrossEntropyLoss(label_smoothing=smoothing)
    order = random.permutation(len(images))
    steps = len(images) // batch
    total = 0.0
    start = time.monotonic()
    for step in range(steps):
        chosen = order[step * batch : (step + 1) * batch]
        inputs = to_tensor(augment(images[chosen], shift, random))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            logits = model(inputs)
        loss = loss_function(logits.float(), torch.from_numpy(labels[chosen]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
        if step % 100 == 99:
            rate = (time.monotonic() - start) / (step + 1)
            mean = total / (step + 1)
            print(f"  step {step + 1}/{steps} loss {mean:.4f} {rate:.3f} s/step", flush=True)
    return total / steps


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train MobileNetV3-Small on Fashion-MNIST.")
    add_data_argument(parser)
    parser.add_argument("--checkpoint", type=Path, required=True, help="written every epoch")
    parser.add_argument("--initial", type=Path, help="checkpoint of an earlier cycle")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--max-lr", type=float, default=6e-3)
    parser.add_argument("--weight-decay", type=float, default=0.03)
    parser.add_argument("--shift", type=int, default=2, help="of training images, in pixels")
    parser.add_argument("--smoothing", type=float, default=0.1, help="of the labels")
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="autocast the forward pass")
    return parser.parse_args()


def main() -> None:
    """Train, or go on training, and print the test accuracy after each epoch."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    images, labels = load_split(arguments.data, "train")
    test_images, test_labels = load_split(arguments.data, "test")

    model = MobileNetV3Small()
    # torch's stubs lack this overload of `to`.
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=arguments.max_lr, weight_decay=arguments.weight_decay
    )
    scheduler = OneCycleLR(
        optimizer,
        max_lr=arguments.max_lr,
        total_steps=arguments.epochs * (len(images) // arguments.batch),
        pct_start=0.2,
    )
    done = 0
    earlier_epochs = 0
    earlier_seeds: list[int] = []
    if arguments.checkpoint.exists():
        state = torch.load(arguments.checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        done = state["epoch"]
        earlier_epochs, earlier_seeds = state["earlier_epochs"], state["earlier_seeds"]
    elif arguments.initial is not None:
        state = torch.load(arguments.initial, weights_only=True)
        model.load_state_dict(state["model"])
        earlier_epochs = state["earlier_epochs"] + state["epoch"]
        earlier_seeds = [*state["earlier_seeds"], state["seed"]]

    for epoch in range(done, arguments.epochs):
        start = time.monotonic()
        loss = train_epoch(
            model,
            optimizer,
            scheduler,
            images,
            labels,
            batch=arguments.batch,
            shift=arguments.shift,
            smoothing=arguments.smoothing,
            seed=(arguments.seed, epoch),
            bfloat16=arguments.bfloat16,
        )
        seconds = time.monotonic() - start
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "epoch": epoch + 1,
            "earlier_epochs": earlier_epochs,
            "earlier_seeds": earlier_seeds,
            "seed": arguments.seed,
        }
        partial = arguments.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(arguments.checkpoint)
        top1 = accuracy(model, test_images, test_labels)
        print(f"epoch {epoch + 1} loss {loss:.4f} test {top1:.4f} {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
