"""Trains a small network. Told to end, it saves where it is; the next run goes on from there."""

import argparse
import json
import os
import signal
from pathlib import Path

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--width", type=int, default=256)
parser.add_argument("--lr", type=float, default=0.001)
arguments = parser.parse_args()

checkpoint = Path(os.environ.get("MLMP_CHECKPOINT_DIR", "."), "last.pt")
asked_to_end = False


def remember(*_: object) -> None:
    """Notes the wish to end: the step under way is finished first."""
    global asked_to_end
    asked_to_end = True


signal.signal(signal.SIGTERM, remember)
torch.manual_seed(1)
device = "cuda" if torch.cuda.is_available() else "cpu"
hidden = [nn.Linear(32, arguments.width), nn.ReLU(), nn.Linear(arguments.width, arguments.width), nn.ReLU()]
model = nn.Sequential(*hidden, nn.Dropout(0.1), nn.Linear(arguments.width, 1)).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=arguments.lr)


def save(done: int) -> None:
    """Writes the state after ``done`` steps. Killed while it does, the last one stays."""
    state = {
        "done": done,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }
    torch.save(state, checkpoint.with_suffix(".new"))
    checkpoint.with_suffix(".new").replace(checkpoint)


done = 0
if checkpoint.exists():
    state = torch.load(checkpoint, map_location="cpu")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    done = state["done"]
print(f"starts at step {done} on {device}", flush=True)

with open("metrics.jsonl", "a", buffering=1) as metrics:
    while done < arguments.steps and not asked_to_end:
        inputs = torch.randn(512, 32)
        targets = torch.sin(inputs.sum(1, keepdim=True))
        loss = nn.functional.mse_loss(model(inputs.to(device)), targets.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        metrics.write(json.dumps({"step": done, "loss": loss.item()}) + "\n")
        done += 1
        if done % 500 == 0:
            save(done)
save(done)
print(f"ends after {done} of {arguments.steps} steps", flush=True)
