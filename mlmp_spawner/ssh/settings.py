"""The settings of the SSH gateway as traits: how much of it one person, or one address, may take."""

from __future__ import annotations

from traitlets import Float, Integer
from traitlets.config import Configurable


class MLMPSSHGateway(Configurable):
    """The SSH gateway."""

    failures_per_minute = Float(
        6, min=0, help="How many logins from one address may fail in a minute, after the first ones; 0: any number."
    ).tag(config=True)
    failures_at_once = Integer(
        20, min=1, help="How many logins from one address may fail before that limit holds."
    ).tag(config=True)
    keys_per_login = Integer(
        10, min=1, help="How many keys a client may offer in one login; OpenSSH's own limit is 6."
    ).tag(config=True)
    connections_per_minute = Float(
        1200,
        min=0,
        help="""How many connections may come from one address in a minute, after the first ones, whoever they are;
        0: any number. A class behind one address shares it.""",
    ).tag(config=True)
    connections_at_once = Integer(
        400, min=1, help="How many connections may come from one address before that limit holds."
    ).tag(config=True)
    unknown_connections = Integer(
        300,
        min=1,
        help="""How many connections may be open that have not logged in yet, from all addresses together. With one
        more, the oldest from the address that holds the most of them is ended.""",
    ).tag(config=True)
    unknown_connections_per_address = Integer(200, min=1, help="How many of those may be from one address.").tag(
        config=True
    )
    login_timeout = Float(20, min=1, help="Seconds that a login may take.").tag(config=True)
    connections_per_user = Integer(
        100, min=1, help="How many connections one person may have open, and how many sessions through them."
    ).tag(config=True)
    opens_per_minute = Float(240, min=0, help="How many sessions one person may open in a minute; 0: any number.").tag(
        config=True
    )
