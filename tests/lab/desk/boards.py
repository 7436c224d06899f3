"""What tests of TensorBoard stand on: event files as a program writes them."""

from __future__ import annotations

from pathlib import Path

from tensorboardX import SummaryWriter


def write_events(folder: Path, *, tag: str = "loss", steps: int = 20) -> Path:
    """A run with one curve."""
    with SummaryWriter(str(folder), flush_secs=1) as writer:
        for step in range(steps):
            writer.add_scalar(tag, 1 / (step + 1), step)
    return folder
