"""The settings of what is used, part of ``c.MLMP``: how often to look, what counts as idle, who is an intruder."""

from __future__ import annotations

from traitlets import Enum, Float, Integer, List, Unicode
from traitlets.config import Configurable


class UseSettings(Configurable):
    """What of ``c.MLMP`` is about use."""

    sample_every = Float(
        30,
        min=1,
        help="Seconds between two looks at what GPUs and servers do. What is shown is that of the last look.",
    ).tag(config=True)
    idle_below = Float(
        5,
        min=0,
        max=100,
        help="""Per cent of a GPU's time up to which it counts as idle. What has no such figure (CPU bookings, MIG
        slices, simulated units) is judged by the CPU time of the server: per cent of one core.""",
    ).tag(config=True)
    use_keep = Integer(
        90, min=1, help="Days for which what was used is kept in steps of five minutes; after that, of an hour."
    ).tag(config=True)
    use_forget = Integer(
        800, min=1, allow_none=True, help="Days after which what was used is forgotten; None: never."
    ).tag(config=True)
    intruders = Enum(
        ["show", "stop"],
        "show",
        help="""What happens to processes on a GPU that belong to nobody's booking of it: ``show`` them to admins, or
        ``stop`` them too (SIGTERM, SIGKILL after ten seconds). The service can stop only what its own account may.""",
    ).tag(config=True)
    intruder_ignore = List(
        Unicode(),
        ["Xorg", "Xwayland", "gnome-shell", "kwin_x11", "kwin_wayland", "gdm-x-session", "nv-hostengine",
         "nvidia-persiste", "nvidia-cuda-mps"],
        help="""Processes that may be on any GPU: by the name of the command, of which the kernel keeps 15 characters,
        or by the user of the system, as ``user:gdm``. A command's name can be feigned, a user's can't.""",
    ).tag(config=True)  # fmt: skip
