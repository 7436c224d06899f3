"""The mail server goes, the service is killed again and again: in the end each notice is there, once."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlmp_spawner import units
from mlmp_spawner.units import HOUR
from tests.live import Site, wait_for
from tests.operations.mailbox import Mailbox

pytestmark = pytest.mark.faults

BOOKINGS = 12


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    yield made
    made.down()


def test_down_killed_and_up_again_each_notice_arrives(tmp_path: Path, mailbox: Mailbox) -> None:
    settings = (
        f'c.MLMP.mail_server = "127.0.0.1"\nc.MLMP.mail_port = {mailbox.port}\nc.MLMP.mail_security = "none"\n'
        'c.MLMP.mail_from = "mlmp@example.org"\nc.MLMP.mail_address = "{username}@example.org"\n'
    )
    site = Site(tmp_path, settings=settings).start()
    try:
        ann, admin = site.person("ann"), site.person("admin")
        path = "/services/mlmp/api/v1/reservations"
        wanted = set()
        for n in range(BOOKINGS):
            start = units.now() + (2 + 2 * n) * HOUR
            body = {"profile": "gpu", "start": units.to_iso(start), "end": units.to_iso(start + HOUR)}
            booked = ann.api.post(path, json=body).json()
            assert admin.api.delete(f"{path}/{booked['id']}").status_code == 200
            wanted.add(booked["id"])
            if n % 4 == 3:  # some were tried in vain by now, some not, some only written down
                time.sleep(random.random())
                site.kill("service")
                wait_for(lambda: _up(admin), what="the service")
        mailbox.up()

        def arrived() -> bool:
            return {_booking(str(mail.get_content())) for mail in mailbox.mails} == wanted

        wait_for(arrived, 330, "each mail")  # a claim of who was killed holds four minutes
        # Nobody was killed while one was on its way, so none came twice.
        assert len(mailbox.mails) == BOOKINGS == len({mail["Message-ID"] for mail in mailbox.mails})
    finally:
        site.close()


def _up(person: object) -> bool:
    answer = person.api.get("/services/mlmp/api/v1/me")  # type: ignore[attr-defined]
    return bool(answer.status_code == 200)


def _booking(text: str) -> str:
    return text.partition("/bookings/")[2].split()[0]
