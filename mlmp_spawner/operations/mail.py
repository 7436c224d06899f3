"""Notices by mail: the message, and its way to the mail server."""

from __future__ import annotations

import smtplib
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from pathlib import Path

PORTS: dict[str, int] = {"starttls": 587, "ssl": 465, "none": 25}

PATIENCE = 15.0
"""Seconds that the mail server may take for one step."""

IN_ALL = 60.0
"""Seconds that one round may take; what is left then is sent in the next."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail goes.

    ``security``: starttls, ssl, none; ``port`` 0: the usual one for that. The password is read from its file when it
    is needed, so that it can be changed. ``sender``: an address, or ``Name <address>``.
    """

    host: str
    sender: str
    port: int = 0
    security: str = "starttls"
    user: str = ""
    password_file: str = ""
    patience: float = PATIENCE

    @property
    def from_address(self) -> str:
        """The bare address of the sender."""
        return parseaddr(self.sender)[1]


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail to be written. ``number`` and ``at`` (ms UTC) are the notice's."""

    to: str
    subject: str
    body: str
    number: int
    at: int
    preferences: str


def message(letter: Letter, sender: str) -> EmailMessage:
    """The mail itself; the same for the same notice, so that one which came twice is known by its Message-ID.

    :raises ValueError: something in it would break a header.
    """
    name, address = parseaddr(sender)
    made = EmailMessage(policy=SMTP)
    made["From"] = Address(name or "MLMP", addr_spec=address)
    made["To"] = Address(addr_spec=letter.to)
    made["Subject"] = letter.subject
    made["Date"] = datetime.fromtimestamp(letter.at // 1000, timezone.utc)
    made["Message-ID"] = f"<mlmp.{letter.number}.{letter.at}@{address.rpartition('@')[2]}>"
    made["Auto-Submitted"] = "auto-generated"
    if letter.preferences:
        made["List-Unsubscribe"] = f"<{letter.preferences}>"
    made.set_content(letter.body, charset="utf-8", cte="quoted-printable")
    return made


@contextmanager
def connected(server: MailServer) -> Iterator[smtplib.SMTP]:
    """A connection to the mail server, encrypted and logged in as the settings say.

    :raises OSError: it can't be reached (``smtplib.SMTPException`` is one), or the file of the password can't be read.
    """
    port = server.port or PORTS[server.security]
    trusted = ssl.create_default_context()
    if server.security == "ssl":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(server.host, port, timeout=server.patience, context=trusted)
    else:
        smtp = smtplib.SMTP(server.host, port, timeout=server.patience)
    try:
        if server.security == "starttls":
            smtp.starttls(context=trusted)
        if server.user:
            password = Path(server.password_file).read_text(encoding="utf-8").strip() if server.password_file else ""
            smtp.login(server.user, password)
        yield smtp
        if smtp.sock is not None:  # else the server has gone already
            smtp.quit()
    finally:
        smtp.close()


def send_all(server: MailServer, letters: list[Letter]) -> list[Exception | None]:
    """Sends mails in a thread of its own, over one connection where the server lets it live; for each None, or why it
    did not go.

    A server that can't be reached is tried once, one that hangs for :data:`IN_ALL` at the most. Where it ends the
    connection at a mail, only that one has failed: else who provokes that would keep everybody behind them from their
    mail, again and again.
    """
    results: list[Exception | None] = []
    until = time.monotonic() + IN_ALL
    while len(results) < len(letters):
        try:
            with connected(server) as smtp:
                _send_some(smtp, server, letters, results, until)
        except (OSError, ValueError) as error:
            # Of those that went before a goodbye failed we know that they went.
            results += [error] * (len(letters) - len(results))
    return results


def _send_some(
    smtp: smtplib.SMTP, server: MailServer, letters: list[Letter], results: list[Exception | None], until: float
) -> None:
    """Sends those that have no result yet, until all have or the connection is gone, which at least one has.

    :raises OSError: there is no sense in going on.
    """
    for letter in letters[len(results) :]:
        if time.monotonic() > until:
            raise TimeoutError("the mail server is too slow")
        try:
            _send(smtp, server, letter)
            results.append(None)
        except (smtplib.SMTPException, ValueError) as error:
            results.append(error)
        if smtp.sock is None and time.monotonic() <= until:
            return


def _send(smtp: smtplib.SMTP, server: MailServer, letter: Letter) -> None:
    smtp.send_message(message(letter, server.sender), from_addr=server.from_address, to_addrs=[letter.to])


def is_final(error: Exception) -> bool:
    """Whether the server says that this mail will never go: trying again would change nothing."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(500 <= code < 600 for code, _ in error.recipients.values())
    if isinstance(error, (smtplib.SMTPSenderRefused, smtplib.SMTPDataError)):
        return 550 <= error.smtp_code < 560
    return isinstance(error, ValueError)
