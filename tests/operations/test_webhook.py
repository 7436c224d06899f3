"""Notices on their way to a chat: in its shape, to its address, and nobody mentioned by what people write."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from mlmp_spawner.operations import changes, delivery, people, webhook
from mlmp_spawner.operations.delivery import SiteHook
from mlmp_spawner.operations.people import Ways
from mlmp_spawner.operations.postman import Postman
from mlmp_spawner.operations.site import Site
from mlmp_spawner.units import MINUTE
from tests.operations.conftest import NOW, admin
from tests.operations.delivering import CHAT, EVIL, PAGES, Chat, book, outbox, postman, rows, tell


async def post(man: Postman, now: int) -> None:
    async with webhook.client() as http:
        while await man.plan(now) or await man.post_webhooks(http, now):
            pass


async def test_a_webhook_of_one_s_own_and_one_of_the_team(site: Site):
    with Chat() as mine, Chat() as team:
        ways = Ways(webhook_hosts={mine.host: "teams"})
        hook = SiteHook(team.url, frozenset({"moved"}))
        man = postman(site, outbox(ways=ways, hooks=(hook,)))
        people.change(site.engine, "ann", ways, choices={}, webhook=mine.url + "hook")
        booked = book(site, title="secret plan")
        tell(site, "moved", booked, target="gpu-b")
        await post(man, NOW)
        (card,) = mine.posted
        shown = json.dumps(card)
        assert card["attachments"][0]["contentType"] == "application/vnd.microsoft.card.adaptive"
        assert "gpu-b" in shown and "secret plan" in shown and f"{PAGES}bookings/{booked.id}" in shown
        (told,) = team.posted
        assert told == {"text": "*Moved: A100, to gpu-b*\nBooking of ann."}
        people.change(site.engine, "ann", ways, choices={"moved": []}, webhook=mine.url + "hook")
        hidden = postman(site, outbox(ways=ways, hooks=(hook,), show_owners=False))
        changes.change(site, booked.id, changes.Changes(title="y"), actor=admin, now=NOW)
        await post(hidden, NOW)
        assert len(mine.posted) == 1
        assert "ann" not in json.dumps(team.posted[1]) and "root" not in json.dumps(team.posted[1])


async def test_nothing_is_posted_where_the_admin_does_not_allow_it_any_more(site: Site):
    with Chat() as chat:
        ways = Ways(webhook_hosts={chat.host: "slack"})
        people.change(site.engine, "ann", ways, choices={}, webhook=chat.url)
        tell(site, "moved", book(site), target="gpu-b")
        delivery.plan(site, outbox(ways=ways), now=NOW)
        await post(postman(site, outbox(ways=Ways())), NOW)
        assert chat.posted == [] and rows(site)[0].error == "not wished any more"


async def test_no_redirect_is_followed_and_what_fails_is_tried_again(site: Site):
    with Chat() as chat:
        hook = SiteHook(chat.url, frozenset({"moved", "promoted", "idle"}))
        man = postman(site, outbox(hooks=(hook,)))
        booked = book(site)
        chat.answers = [302, 500, 410]
        for action in ("moved", "promoted", "idle_warned"):
            tell(site, action, booked)
        await post(man, NOW)
        assert len(chat.posted) == 3 and sorted(row.error for row in rows(site)) == [
            "it answered 302", "it answered 410", "it answered 500",
        ]  # fmt: skip
        assert sum(row.given_up_at is not None for row in rows(site)) == 1
        await post(man, NOW + MINUTE)
        assert len(chat.posted) == 5 and sum(row.sent_at is not None for row in rows(site)) == 2


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_nobody_is_mentioned_and_nothing_linked_by_what_people_write(text: str):
    hostile = text + CHAT
    shown = webhook.payload("slack", hostile, hostile, "")["text"]
    for sign in ("<", ">", "@here", "@all", "://", "www.", "[a]", "#general"):
        assert sign not in shown


def test_teams_reads_no_markdown_in_what_people_write():
    card = webhook.payload("teams", EVIL, EVIL, PAGES)["attachments"][0]["content"]
    assert {run["type"] for block in card["body"] for run in block["inlines"]} == {"TextRun"}
    assert [action["url"] for action in card["actions"]] == [PAGES]
