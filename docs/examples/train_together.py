"""Trains one network with several workers, each on its own share of the data, and goes on where it was stopped."""

import argparse
import json
import os
import signal
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--width", type=int, default=256)
arguments = parser.parse_args()

checkpoint = Path(os.environ.get("MLMP_CHECKPOINT_DIR", "."), "last.pt")
asked_to_end = False


def remember(*_: object) -> None:
    """Notes the wish to end: the step under way is finished first."""
    global asked_to_end
    asked_to_end = True


signal.signal(signal.SIGTERM, remember)
device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
rank, workers = distributed.get_rank(), distributed.get_world_size()

torch.manual_seed(1)
network = nn.Sequential(nn.Linear(32, arguments.width), nn.ReLU(), nn.Linear(arguments.width, 1)).to(device)
optimizer = torch.optim.Adam(network.parameters())
done = 0
if checkpoint.exists():  # each worker reads it: the home is the same everywhere
    state = torch.load(checkpoint, map_location="cpu")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    done = state["done"]
model = DistributedDataParallel(network)
print(f"worker {rank} of {workers} starts at step {done} on {device}", flush=True)

together = torch.zeros(2, device=device)
while done < arguments.steps and not together[1]:
    torch.manual_seed(done * workers + rank)  # other data for each worker and step
    inputs = torch.randn(512, 32)
    targets = torch.sin(inputs.sum(1, keepdim=True))
    loss = nn.functional.mse_loss(model(inputs.to(device)), targets.to(device))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    # All learn in the same step that one was asked to end: none waits for another that has left.
    together = torch.tensor([loss.item() / workers, float(asked_to_end)], device=device)
    distributed.all_reduce(together)
    if rank == 0:
        with open("metrics.jsonl", "a") as metrics:
            metrics.write(json.dumps({"step": done, "loss": together[0].item()}) + "\n")
    done += 1

if rank == 0:
    state = {"done": done, "network": network.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, checkpoint.with_suffix(".new"))
    checkpoint.with_suffix(".new").replace(checkpoint)
distributed.destroy_process_group()
print(f"worker {rank} ends after {done} of {arguments.steps} steps", flush=True)
