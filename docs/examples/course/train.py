"""Trains one network as a row of a scan, and leaves its numbers and a picture."""

import argparse
import json
import os
from pathlib import Path

import matplotlib
import torch
from spirals import draw, network, points, share_right
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--width", type=int, default=32)
parser.add_argument("--steps", type=int, default=300)
arguments = parser.parse_args()

device = "cuda" if torch.cuda.is_available() else "cpu"
places, spiral = (one.to(device) for one in points(2000, seed=1))
new_places, new_spiral = (one.to(device) for one in points(1000, seed=2))

torch.manual_seed(1)
model = network(arguments.width).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=arguments.lr)
with open("metrics.jsonl", "w", buffering=1) as metrics:
    for step in range(arguments.steps):
        loss = nn.functional.binary_cross_entropy_with_logits(model(places), spiral)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            right = share_right(model, new_places, new_spiral)
            metrics.write(json.dumps({"step": step, "loss": loss.item(), "right": right}) + "\n")

matplotlib.use("Agg")  # a job has no screen
from matplotlib import pyplot  # noqa: E402

figure, axes = pyplot.subplots(figsize=(3, 3))
draw(axes, model)
axes.set_title(f"{right:.1%} right")
figure.savefig(Path(os.environ.get("MLMP_OUTPUT_DIR", "."), "spirals.png"))
print(f"{right:.1%} of new points are right")
