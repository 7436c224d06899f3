"""Two spirals, a network that tells them apart, and a picture of what it has learned."""

import torch
from torch import nn


def points(number, seed):
    """``number`` places in the plane, and for each the spiral that it is on: 0 or 1."""
    chance = torch.Generator().manual_seed(seed)
    spiral = torch.randint(2, (number,), generator=chance)
    radius = torch.rand(number, generator=chance).sqrt()
    angle = (2.5 * radius + spiral) * torch.pi
    places = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return places + 0.02 * torch.randn(number, 2, generator=chance), spiral.float()


def network(width):
    """Says of each place how much it looks like spiral 1; below 0: like spiral 0."""
    hidden = [nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Linear(width, 1), nn.Flatten(0))


def share_right(model, places, spiral):
    """How many of the places it puts on their spiral: 1 for all."""
    with torch.no_grad():
        return ((model(places) > 0) == spiral.bool()).float().mean().item()


def draw(axes, model, size=120):
    """Colours each place of the plane by the spiral on which the network puts it."""
    device = next(model.parameters()).device
    along = torch.linspace(-1.1, 1.1, size, device=device)
    y, x = torch.meshgrid(along, along, indexing="ij")
    with torch.no_grad():
        says = torch.sigmoid(model(torch.stack([x, y], -1).reshape(-1, 2))).reshape(size, size)
    axes.imshow(says.tolist(), origin="lower", extent=(-1.1, 1.1, -1.1, 1.1), cmap="coolwarm", vmin=0, vmax=1)
    axes.set_axis_off()
