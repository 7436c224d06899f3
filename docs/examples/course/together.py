"""Trains one network with several workers, each on its own share of the points."""

import json
import os

import torch
from spirals import network, points, share_right
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

STEPS = 300

device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
rank, workers = distributed.get_rank(), distributed.get_world_size()

places, spiral = (one[rank::workers].to(device) for one in points(2000, seed=1))
print(f"worker {rank} of {workers} has {len(places)} points on {device}", flush=True)

torch.manual_seed(1)
model = DistributedDataParallel(network(32).to(device))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(STEPS):
    loss = nn.functional.binary_cross_entropy_with_logits(model(places), spiral)
    optimizer.zero_grad()
    loss.backward()  # here the workers add up their gradients
    optimizer.step()
    mean = loss.detach() / workers
    distributed.all_reduce(mean)
    if rank == 0:
        with open("metrics.jsonl", "a") as metrics:
            metrics.write(json.dumps({"step": step, "loss": mean.item()}) + "\n")

if rank == 0:
    right = share_right(model.module, *(one.to(device) for one in points(1000, seed=2)))
    print(f"after {STEPS} steps {right:.1%} of new points are right", flush=True)
distributed.destroy_process_group()
