"""The way to the mail server, where the server is one that goes away."""

from __future__ import annotations

import pytest

from mlmp_spawner.operations import mail
from tests.operations.conftest import NOW
from tests.operations.mailbox import Mailbox


def letter(number: int, to: str) -> mail.Letter:
    return mail.Letter(to, "A booking was moved", "It was moved.\n", number, NOW, "")


@pytest.mark.parametrize("silent", [False, True])
def test_one_at_whom_the_server_goes_away_keeps_no_other_from_their_mail(silent: bool):
    with Mailbox() as mailbox:
        if silent:
            mailbox.hang_up_at = "eve@example.org"
        else:
            mailbox.refuse["eve@example.org"] = "421 4.7.0 too many errors"
        people = ["ann", "eve", "eve", "ben", "eve"]
        letters = [letter(number, f"{name}@example.org") for number, name in enumerate(people)]
        results = mail.send_all(mailbox.server(), letters)
        assert [error is None for error in results] == [True, False, False, True, False]
        assert [found["To"] for found in mailbox.mails] == ["ann@example.org", "ben@example.org"]


def test_a_server_that_is_not_there_is_asked_once():
    mailbox = Mailbox()
    first, second = mail.send_all(mailbox.server(), [letter(1, "ann@example.org"), letter(2, "ben@example.org")])
    assert isinstance(first, ConnectionRefusedError) and second is first
