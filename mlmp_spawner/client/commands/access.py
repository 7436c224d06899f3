"""``mlmp login``, ``whoami``, ``logout``: whose hub, whose token."""

from __future__ import annotations

import sys

import click

from mlmp_spawner.client import config, show
from mlmp_spawner.client.problems import NotSignedIn
from mlmp_spawner.client.session import Session, command
from mlmp_spawner.errors import Invalid


@command()
@click.argument("url")
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input instead of asking for it.")
def login(session: Session, url: str, token_stdin: bool) -> None:
    """Sign in to the hub at URL (as in your browser) and keep the token, readable by you alone.

    The token is checked first. MLMP_URL and MLMP_TOKEN in the environment win over what is kept.
    """
    from mlmp_spawner.client.api import Client

    address = config.hub_url(url)
    if config.in_the_clear(address):
        session.note(f"warning: {address} is not encrypted; others on the way can read the token")
    if token_stdin:
        token = sys.stdin.readline().strip()
    else:
        click.echo(f"Make a token at {address}hub/token and paste it here.", err=True)
        token = click.prompt("Token", hide_input=True, err=True).strip()
    access = config.Access(address, config.checked_token(token))
    with Client(access, notice=session.note) as client:
        me = client.me()
    path = config.save(access)
    if session.json:
        show.print_json({"url": address, "name": me.name, "file": str(path)})
    else:
        session.say(f"You are {me.name} on {address}; the token is kept in {path}.")


@command()
def whoami(session: Session) -> None:
    """Who you are, on which hub, and what of your limits is used."""
    me = session.client.me()
    if session.json:
        show.print_json(me.raw)
        return
    access = session.client.access
    session.say(f"{me.name} on {access.url} (by {access.source})")
    if me.groups:
        session.say(f"groups: {', '.join(me.groups)}")
    limits, used = me.raw.get("limits") or {}, me.raw.get("used") or {}
    rows = [
        (name.replace("_", " "), used.get(name, "-"), "no limit" if allowed is None else allowed)
        for name, allowed in limits.items()
    ]
    if rows:
        show.table(session.out, ("limit", "used", "allowed"), rows)


@command()
def logout(session: Session) -> None:
    """Forget the token that is kept here. It stays valid until you revoke it on the hub's token page."""
    path = config.config_path()
    try:
        url = config.load({}).url
    except (NotSignedIn, Invalid):
        url = None
    there = config.forget()
    if session.json:
        show.print_json({"removed": there, "file": str(path)})
    elif there:
        revoke = f" To revoke it too: {url}hub/token" if url else ""
        session.say(f"The token is removed from {path}.{revoke}")
    else:
        session.say("Nobody was signed in here.")
