"""What ``mlmp up`` says once all runs: where it is, and who can log in how."""

from __future__ import annotations

import ipaddress

from rich.console import Console

from mlmp_spawner.spawners.hub import OneMachine

ISOLATES_NOBODY = (
    "Everybody's server runs as the account that started this, with that account's rights: it isolates nobody. "
    "For trying out, or among people who trust each other."
)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def greet(machine: OneMachine, first: bool, console: Console) -> None:
    """Says it; passwords only the first time."""
    console.print(f"\nMLMP is ready: [bold]{machine.local_url}[/]\n")
    if machine.ssh_port is not None:
        console.print(f"SSH, with registered keys: ssh -J NAME@{machine.ssh_gateway} NAME")
    if machine.auth == "pam":
        _greet_system_users(machine, console)
        return
    if machine.auth == "dummy":
        console.print(f"Log in with any name and any password; [bold]{machine.admin}[/] is the admin.")
    elif first:
        console.print(f"Admin: [bold]{machine.admin}[/]  password: [bold]{machine.admin_password}[/]")
        console.print(f"All others: any name  password: [bold]{machine.user_password}[/]")
        console.print("They are shown this once, and kept in [bold]up.json[/] there:", machine.data)
    else:
        console.print("The passwords are as they were; they are kept in", f"{machine.data}/up.json")
    console.print(f"\n{ISOLATES_NOBODY}", style="yellow")
    console.print("Ctrl-C ends it; users' servers run on until their bookings end.\n")


def _greet_system_users(machine: OneMachine, console: Console) -> None:
    who = f"members of {', '.join(machine.allowed_groups)}" if machine.allowed_groups else "all users of this machine"
    admins = ", ".join(machine.admin_groups) or "none: name one with --admin-group"
    console.print(f"Log in: {who}, with their passwords. Admins: the members of [bold]{admins}[/].")
    console.print("Servers run as their users; proxy and service as", machine.account)
    for kind, why in machine.not_enforced.items():
        console.print(f"Not enforced: {kind}: {why}.", style="yellow")
    if not is_loopback(machine.host):
        console.print("Passwords cross the network as they are: put TLS before it (nginx).", style="yellow")
    console.print("Ctrl-C ends it; users' servers run on until their bookings end.\n")
