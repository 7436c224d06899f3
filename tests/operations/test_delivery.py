"""Notices leave the house: each once, whatever fails on the way, and nobody waits for it."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.operations import changes, delivery, mail, notices, people
from mlmp_spawner.operations.delivery import CLAIM, TOO_LATE, Outbox, SiteHook, outbox_of
from mlmp_spawner.operations.mail import Letter, message
from mlmp_spawner.operations.people import Ways
from mlmp_spawner.operations.postman import Postman
from mlmp_spawner.operations.site import Site
from mlmp_spawner.settings import MLMP
from mlmp_spawner.store import tables
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import DAY, HOUR, MINUTE
from tests.operations.conftest import NOW, ann, ben
from tests.operations.delivering import EVIL, PAGES, Chat, book, outbox, postman, rows, send, tell
from tests.operations.mailbox import HangingServer, Mailbox, certificate


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as made:
        yield made


# -- mail ------------------------------------------------------------------------------------------------------


async def test_a_mail_says_what_when_and_where_to_go_on(site: Site, mailbox: Mailbox):
    booked = book(site, title="finetune", units=2)
    tell(site, "moved", booked, source="gpu-a", target="gpu-b")
    await send(postman(site, outbox(mailbox)), NOW)
    (found,) = mailbox.mails  # that it was booked she knows
    assert found["To"] == "ann@example.org" and found["From"] == "MLMP <mlmp@example.org>"
    assert found["Subject"] == "Moved: 2 × A100, to gpu-b"
    assert found["Auto-Submitted"] == "auto-generated" and found["Date"].datetime.timestamp() * 1000 == NOW
    assert found["List-Unsubscribe"] == f"<{PAGES}preferences>"
    text = found.get_content()
    assert f"{PAGES}bookings/{booked.id}" in text and f"{PAGES}preferences" in text
    assert "From   Sat 16 Jan 2027, 09:00" in text and "Times are in Europe/Zurich." in text and "finetune" in text


async def test_down_for_a_while_then_up_each_mail_arrives_once(site: Site, mailbox: Mailbox):
    man = postman(site, outbox(mailbox))
    mailbox.down()
    bookings = [book(site, start=NOW + DAY + n * HOUR) for n in range(3)]
    for booked in bookings:
        tell(site, "promoted", booked)
    await send(man, NOW)
    assert mailbox.mails == [] and {(row.tries, row.sent_at) for row in rows(site)} == {(1, None)}
    assert all("refused" in row.error for row in rows(site))
    await send(man, NOW + 29_000)  # too early for another try
    assert {row.tries for row in rows(site)} == {1}
    await send(man, NOW + MINUTE)
    mailbox.up()
    tell(site, "promoted", bookings[0], at=NOW + 2 * MINUTE)
    await send(man, NOW + 2 * MINUTE)
    await send(man, NOW + 4 * MINUTE)
    await send(man, NOW + 3 * HOUR)
    assert len(mailbox.mails) == 4 == len({found["Message-ID"] for found in mailbox.mails})
    assert all(row.sent_at and row.error is None for row in rows(site))


async def test_it_is_given_up_in_the_end_and_the_reason_kept(site: Site, mailbox: Mailbox):
    man = postman(site, outbox(mailbox))
    mailbox.down()
    tell(site, "released", book(site, start=NOW + 30 * DAY))
    now, tries = NOW, 0
    while now <= NOW + 3 * DAY:
        await man.plan(now)
        tries += await man.send_mail(now)
        now += 2 * HOUR
    (row,) = rows(site)
    assert row.given_up_at == NOW + 2 * DAY and "refused" in row.error and row.tries == tries > 20
    mailbox.up()
    await send(man, now)
    assert mailbox.mails == []


async def test_what_is_too_old_to_matter_is_noted_and_not_sent(site: Site, mailbox: Mailbox):
    man = postman(site, outbox(mailbox))
    people.change(site.engine, "ann", man.outbox.ways, choices={"starts_soon": ["mail"]})
    booked = book(site)
    tell(site, "announced", booked)
    mailbox.down()
    await send(man, NOW)
    tell(site, "announced", booked)
    mailbox.up()
    await send(man, NOW + 2 * DAY)
    assert mailbox.mails == [] and [(row.error, bool(row.given_up_at)) for row in rows(site)] == [(TOO_LATE, True)] * 2


async def test_one_recipient_that_there_is_not_keeps_no_other_from_their_mail(site: Site, mailbox: Mailbox):
    mailbox.refuse["ann@example.org"] = "550 5.1.1 no such user"
    for who in (ann, ben):
        tell(site, "moved", book(site, who), target="gpu-b")
    await send(postman(site, outbox(mailbox)), NOW)
    assert [found["To"] for found in mailbox.mails] == ["ben@example.org"]
    gone, sent = sorted(rows(site), key=lambda row: row.address)
    assert gone.given_up_at == NOW and "5.1.1" in gone.error and sent.sent_at == NOW


async def test_a_server_that_is_full_is_asked_again(site: Site, mailbox: Mailbox):
    mailbox.refuse_data = ["452 4.3.1 full"]
    man = postman(site, outbox(mailbox))
    tell(site, "moved", book(site), target="gpu-b")
    await send(man, NOW)
    assert mailbox.mails == [] and rows(site)[0].given_up_at is None
    await send(man, NOW + MINUTE)
    assert len(mailbox.mails) == 1


async def test_killed_between_sending_and_writing_it_down_it_comes_again_and_is_known(site: Site, mailbox: Mailbox):
    box = outbox(mailbox)
    tell(site, "moved", book(site), target="gpu-b")
    delivery.plan(site, box, now=NOW)
    (one,) = delivery.claim(site, box, ["mail"], now=NOW)
    assert mail.send_all(mailbox.server(), [delivery.letter(one, box, {})]) == [None]
    # Here the service died. Nobody sends it again while the claim holds; then one does.
    assert delivery.claim(site, box, ["mail"], now=NOW + CLAIM - 1) == []
    await send(postman(site, box), NOW + CLAIM)
    first, second = mailbox.mails
    assert first["Message-ID"] == second["Message-ID"] and first["Date"] == second["Date"]


def test_two_services_never_claim_the_same(site: Site):
    box = Outbox(hooks=(SiteHook("https://x.example/", frozenset({"moved"})),))
    booked = book(site)
    for _ in range(30):
        tell(site, "moved", booked, target="gpu-b")
    delivery.plan(site, box, now=NOW)
    won: list[int] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        won.extend(one.notice.id for one in delivery.claim(site, box, ["site"], now=NOW))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == len(set(won)) == 30


async def test_a_hanging_mail_server_delays_no_booking_and_no_webhook(site: Site):
    with HangingServer() as hanging, Chat() as chat:
        server = mail.MailServer("127.0.0.1", "mlmp@example.org", port=hanging.port, security="none", patience=20)
        hook = SiteHook(chat.url, frozenset({"promoted"}))
        man = postman(site, outbox(mail=server, ways=Ways(mail=True, template="{username}@x.org"), hooks=(hook,)))
        tell(site, "promoted", book(site))
        running = asyncio.create_task(man.run())
        while not hanging.connected.is_set():
            await asyncio.sleep(0.01)
        began = asyncio.get_running_loop().time()
        for n in range(5):
            booked = await asyncio.to_thread(book, site, ben, start=NOW + DAY + n * HOUR)
            await asyncio.to_thread(tell, site, "promoted", booked)
        man.wake()
        while len(chat.posted) < 6:
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began < 10
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_the_server_is_told_who_asks(tmp_path: Path):
    password = tmp_path / "password"
    password.write_text("secret\n")
    letter = Letter("ann@example.org", "Hello", "Hello\n", 1, NOW, "")
    with Mailbox(auth_required=True, auth_require_tls=False, authenticator=None) as closed:
        (error,) = mail.send_all(closed.server(), [letter])
        assert error is not None and not mail.is_final(error)
    made = Mailbox(auth_required=True, auth_require_tls=False)
    made._options["authenticator"] = made.login
    with made:
        assert mail.send_all(made.server(user="mlmp", password_file=str(password)), [letter]) == [None]
        password.write_text("wrong")
        (error,) = mail.send_all(made.server(user="mlmp", password_file=str(password)), [letter])
        assert error is not None and not mail.is_final(error)
    assert set(made.logins) == {b"mlmp"} and len(made.mails) == 1


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_an_encrypted_way_to_a_server_that_is_who_it_says(
    security: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    letter = Letter("ann@example.org", "Hello", "Hello\n", 1, NOW, "")
    context, trusted = certificate(tmp_path)
    way = {"tls_context": context, "require_starttls": True} if security == "starttls" else {"ssl_context": context}
    with Mailbox(**way) as made:
        (error,) = mail.send_all(made.server(security=security), [letter])
        assert isinstance(error, ssl.SSLCertVerificationError)  # nobody vouches for it
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert mail.send_all(made.server(security=security), [letter]) == [None]
        (error,) = mail.send_all(made.server(security=security, host="localhost"), [letter])
        assert isinstance(error, ssl.SSLCertVerificationError)  # another name
    assert len(made.mails) == 1


def test_without_the_encryption_that_was_asked_for_nothing_is_sent(mailbox: Mailbox):
    letter = Letter("ann@example.org", "Hello", "Hello\n", 1, NOW, "")
    for security in ("starttls", "ssl"):
        (error,) = mail.send_all(mailbox.server(security=security), [letter])
        assert error is not None and not mail.is_final(error)
    assert mailbox.mails == []


@given(st.text(max_size=120), st.text(max_size=120), st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_no_text_breaks_out_of_its_header_or_line(title: str, target: str, name: str):
    details = {"action": "moved", "by": name, "title": title, "target": target, "profile": title, "units": 1}
    told = notices.Notice(7, 1, "moved", NOW, "abc", details)
    one = delivery.Delivery(told, people.Person(1, name), "mail", "ann@example.org", 1, 0)
    made = message(delivery.letter(one, outbox(), {}), "MLMP <mlmp@example.org>")
    lines = bytes(made).split(b"\r\n\r\n")[0].decode("ascii").split("\r\n")
    names = [line.partition(":")[0] for line in lines if line[0] not in " \t"]
    assert names == [
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "List-Unsubscribe", "Content-Type",
        "Content-Transfer-Encoding", "MIME-Version",
    ]  # fmt: skip
    text = made.get_content()
    assert text.count("\n") == len(text.splitlines()) <= 16
    assert "\r" not in text.replace("\r\n", "\n")


async def test_a_hostile_title_goes_through_a_real_server_as_a_title(site: Site, mailbox: Mailbox):
    booked = book(site, title="x" + EVIL.partition("\r\n")[2].replace("\r\n", " ")[:150].rstrip("\u202e"))
    with transaction(site.engine) as connection:
        connection.execute(tables.reservation.update().values(title=EVIL))
    tell(site, "moved", changes.get(site, booked.id), target=EVIL)
    await send(postman(site, outbox(mailbox)), NOW)
    (found,) = mailbox.mails
    assert mailbox.recipients == [["ann@example.org"]] and found["Bcc"] is None and found["Cc"] is None
    assert "\n" not in found["Subject"] and "\u202e" not in str(found)


# -- keeping, and the settings ---------------------------------------------------------------------------------


async def test_old_notices_are_deleted_with_their_deliveries(site: Site, mailbox: Mailbox):
    man = postman(site, outbox(mailbox))
    tell(site, "moved", book(site), target="gpu-b")
    await send(man, NOW)
    assert rows(site) and notices.page(site.engine, "ann").items
    await man.plan(NOW + 61 * DAY)
    assert rows(site) == [] and notices.page(site.engine, "ann").items == []


async def arrived(mailbox: Mailbox) -> None:
    while not mailbox.mails:
        await asyncio.sleep(0.02)


async def test_the_loop_goes_on_after_a_failure(site: Site, mailbox: Mailbox):
    failures = iter(range(6))

    def flaky() -> Site:
        if next(failures, None) is not None:
            raise OSError("the disk is full")
        return site

    man = Postman(flaky, outbox(mailbox), poll=0.02)
    tell(site, "released", book(site))
    running = asyncio.create_task(man.run())
    await asyncio.wait_for(arrived(mailbox), 10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_notice_that_nobody_can_read_keeps_no_other_back(site: Site, mailbox: Mailbox):
    booked = book(site)
    tell(site, "moved", booked, target="gpu-b")
    tell(site, "promoted", booked)
    with transaction(site.engine) as connection:
        c = tables.notice.c
        connection.execute(
            tables.notice.update().where(c.kind == "moved").values(details={"nodes": 5, "end": NOW + DAY})
        )
    await send(postman(site, outbox(mailbox)), NOW)
    assert [found["Subject"].partition(":")[0] for found in mailbox.mails] == ["You got a place"]
    assert sorted(bool(row.sent_at) for row in rows(site)) == [False, True]


def test_a_deleted_user_gets_no_mail(site: Site, mailbox: Mailbox):
    box = outbox(mailbox)
    tell(site, "moved", book(site), target="gpu-b")
    delivery.plan(site, box, now=NOW)
    with transaction(site.engine) as connection:
        connection.execute(delete(tables.users).where(tables.users.c.name == "ann"))
    assert delivery.claim(site, box, ["mail"], now=NOW) == []


def test_what_the_settings_say():
    settings = MLMP(
        mail_server="mail.example.org", mail_from="MLMP <mlmp@example.org>", mail_address="{username}@example.org",
        webhooks=[{"url": "https://chat.example.org/x", "kinds": ["maintenance"], "shape": "teams"}],
        webhook_hosts={"chat.example.org": "slack"}, notice_keep_trying=60, notice_keep=7,
    )  # fmt: skip
    made = outbox_of(settings, PAGES, ZoneInfo("UTC"))
    assert made.mail == mail.MailServer("mail.example.org", "MLMP <mlmp@example.org>")
    assert made.hooks == (SiteHook("https://chat.example.org/x", frozenset({"maintenance"}), "teams"),)
    assert (made.keep_trying, made.keep) == (MINUTE, 7 * DAY)
    assert outbox_of(MLMP(), "", ZoneInfo("UTC")).mail is None
    assert MLMP(mail_address="{username}").mail_address  # names that are addresses themselves
    with pytest.raises(ConfigurationError, match="mail_from"):
        outbox_of(MLMP(mail_server="mail.example.org"), "", ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mail_from", "nobody"),
        ("mail_from", "MLMP\r\nBcc: eve@example.org <mlmp@example.org>"),
        ("mail_address", "all@example.org"),
        ("mail_security", "sometimes"),
        ("zone", "Zurich"),
        ("public_url", "hub.example.org"),
        ("webhooks", [{"url": "https://x.example/", "kinds": ["nonsense"]}]),
        ("webhooks", [{"url": "https://x.example/", "kinds": []}]),
        ("webhooks", [{"url": "file:///etc/passwd", "kinds": ["moved"]}]),
        ("webhooks", [{"url": "https://x.example/", "kinds": ["moved"], "shap": "slack"}]),
        ("webhook_hosts", {"https://x.example/": "slack"}),
        ("webhook_hosts", {"x.example": "pigeon"}),
    ],
)
def test_wrong_settings_are_refused_by_name(name: str, value: object):
    with pytest.raises(Exception, match=name):
        MLMP(**{name: value})
