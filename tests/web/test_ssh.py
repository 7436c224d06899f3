"""SSH keys and certificates over the API and on the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_identity

from mlmp_spawner.operations import history, ssh_keys
from mlmp_spawner.operations.history import Filter
from mlmp_spawner.operations.site import SSH, Actor
from mlmp_spawner.units import from_iso
from tests.operations.conftest import NOW
from tests.rules.test_ssh_keys import ED25519, in_hardware, rsa_line
from tests.web.harness import PREFIX, RunningApp
from tests.web.test_openapi import conforms
from tests.web.test_stream import following
from tests.web.visitor import HOSTILE, Visitor, booked, running, text

# What differs between databases is in tests/operations/test_ssh_keys.py.
pytestmark = pytest.mark.parametrize("db_url", ["sqlite"], indirect=True)

PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\n-----END OPENSSH PRIVATE KEY-----\n"


def give(app: RunningApp, **changes: object) -> None:
    """The site's SSH is so."""
    app.context.site = app.site = replace(app.site, ssh=replace(app.site.ssh, **changes))  # type: ignore[arg-type]


def test_a_key_is_added_listed_and_removed(app: RunningApp, ann: httpx.Client):
    made = ann.post("ssh-keys", json={"key": f"{ED25519} ann@laptop"})
    conforms("ssh-keys", made)
    one = made.json()
    assert made.status_code == 201 and made.headers["Location"].endswith(f"/ssh-keys/{one['id']}")
    assert (one["title"], f"{one['algorithm']} {one['key']}", one["used_at"]) == ("ann@laptop", ED25519, None)
    listed = ann.get("ssh-keys")
    conforms("ssh-keys", listed)
    assert listed.json()["items"] == [one]
    gone = ann.delete(f"ssh-keys/{one['id']}")
    assert gone.status_code == 204 and gone.content == b""
    again = ann.delete(f"ssh-keys/{one['id']}")
    conforms("ssh-keys/{id}", gone)
    conforms("ssh-keys/{id}", again)
    assert again.status_code == 404 and ann.get("ssh-keys").json()["items"] == []


def test_a_key_that_is_there_is_a_conflict_that_names_it(ann: httpx.Client):
    one = ann.post("ssh-keys", json={"key": ED25519, "title": "laptop"}).json()
    again = ann.post("ssh-keys", json={"key": ED25519, "title": "other"})
    conforms("ssh-keys", again)
    assert again.status_code == 409 and again.json()["id"] == one["id"]


@pytest.mark.parametrize("key", ["", "hello", PRIVATE, rsa_line(2048), f"{ED25519}\n{ED25519}", "x" * 20_000])
def test_what_is_no_key_or_too_weak_is_refused_by_its_field(ann: httpx.Client, key: str):
    answer = ann.post("ssh-keys", json={"key": key})
    conforms("ssh-keys", answer)
    assert answer.status_code == 400 and answer.json()["errors"][0]["field"] == "key"
    assert "b3BlbnNzaC1" not in answer.text


def test_everybody_has_their_own_and_an_admin_may_take_away(app: RunningApp, ann: httpx.Client, ben: httpx.Client):
    one = ann.post("ssh-keys", json={"key": ED25519}).json()
    assert ben.get("ssh-keys").json()["items"] == []
    assert ben.get("ssh-keys", params={"owner": "ann"}).status_code == 403
    assert ben.delete(f"ssh-keys/{one['id']}", params={"owner": "ann"}).status_code == 403
    assert ben.post("ssh-keys", params={"owner": "ann"}, json={"key": in_hardware()}).status_code == 400
    with app.client("admin-token") as admin:
        assert admin.get("ssh-keys", params={"owner": "ann"}).json()["items"] == [one]
        assert admin.get("ssh-keys", params={"owner": "nobody-yet"}).json()["items"] == []
        assert admin.delete(f"ssh-keys/{one['id']}", params={"owner": "ann"}).status_code == 204
    newest = history.audit(app.site.engine, Filter(person="ann"))[0][0]
    assert (newest.action, newest.actor, newest.owner) == ("ssh_key_removed", "root", "ann")


def test_an_admin_adds_no_key_to_somebody_else(app: RunningApp):
    """It would open their servers, with their files."""
    with app.client("admin-token") as admin:
        answer = admin.post("ssh-keys", params={"owner": "ann"}, json={"key": ED25519})
    assert answer.status_code == 400 and ssh_keys.of_owner(app.site, "ann") == []


def test_what_a_client_needs_to_know(app: RunningApp, ann: httpx.Client):
    give(app, login="{username}", gateway=("ssh.example.org", 2222))
    answer = ann.get("ssh")
    conforms("ssh", answer)
    body = answer.json()
    assert body["authority"].startswith("ssh-ed25519 AAAA")
    assert (body["enabled"], body["login"], body["principal"]) == (True, "ann", "ann")
    assert body["gateway"] == {"host": "ssh.example.org", "port": 2222}
    give(app, gateway=None)
    assert ann.get("ssh").json() == body | {"gateway": None}


def test_a_registered_key_is_signed_for_ten_minutes(ann: httpx.Client, ben: httpx.Client):
    ann.post("ssh-keys", json={"key": ED25519})
    answer = ann.post("ssh-certificates", json={"public_key": ED25519})
    conforms("ssh-certificates", answer)
    found = load_ssh_public_identity(answer.json()["certificate"].encode())
    found.verify_cert_signature()
    assert found.valid_principals == [b"ann"]
    assert from_iso(answer.json()["expires"]) == NOW + 10 * 60_000
    refused = ben.post("ssh-certificates", json={"public_key": ED25519})
    conforms("ssh-certificates", refused)
    assert refused.status_code == 403 and "mlmp ssh-key add" in refused.json()["hint"]


def test_a_server_gets_its_host_key_signed_and_may_not_change_the_keys_of_people(app: RunningApp, ann: httpx.Client):
    ann.post("ssh-keys", json={"key": ED25519})
    with app.client("server-token") as server:
        answer = server.post("ssh-host-certificates", json={"public_key": ED25519})
        conforms("ssh-host-certificates", answer)
        one = server.get("ssh-keys").json()["items"][0]
        assert server.post("ssh-keys", json={"key": in_hardware()}).status_code == 403
        assert server.delete(f"ssh-keys/{one['id']}").status_code == 403
    found = load_ssh_public_identity(answer.json()["certificate"].encode())
    assert found.valid_principals == [b"ann"] and found.type.name == "HOST"


def test_a_service_of_the_hub_is_nobody_with_keys(app: RunningApp):
    with app.client("service-token") as robot:
        assert robot.get("ssh-keys").status_code == 403
        assert robot.post("ssh-certificates", json={"public_key": ED25519}).status_code == 403


def test_where_ssh_is_switched_off_nothing_is_signed_and_no_page_speaks_of_it(
    app: RunningApp, ann: httpx.Client, visit: Callable[[], Visitor]
):
    ann.post("ssh-keys", json={"key": ED25519})
    give(app, enabled=False)
    assert ann.get("ssh").json()["enabled"] is False
    for path in ("ssh-certificates", "ssh-host-certificates"):
        answer = ann.post(path, json={"public_key": ED25519})
        conforms(path, answer)
        assert answer.status_code == 404 and "switched off" in answer.json()["detail"]
    ann.delete(f"ssh-keys/{ann.get('ssh-keys').json()['items'][0]['id']}")
    visitor = visit()
    assert f'href="{PREFIX}ssh"' not in visitor.get()
    assert "switched off" in visitor.get("ssh") and visitor.answer.status_code == 404


def test_where_the_authority_can_t_be_made_the_rest_still_works(
    app: RunningApp, ann: httpx.Client, visit: Callable[[], Visitor]
):
    app.context.site = app.site = replace(
        app.site, ssh=SSH(ca_file="/nonexistent/ssh_ca", gateway=("ssh.example.org", 22))
    )
    answer = ann.get("ssh")
    conforms("ssh", answer)
    assert answer.status_code == 503 and "nonexistent" not in answer.text
    assert ann.post("ssh-keys", json={"key": ED25519}).status_code == 201
    assert "Your keys" in visit().get("ssh")


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_without_a_key_teaches_how_the_first_connection_is_made(
    visit: Callable[[], Visitor], app: RunningApp
):
    page = visit().get("ssh")
    assert "None yet" in page and "pip install mlmp-spawner" in page and f"mlmp login {app.url}/" in page
    assert "known_hosts" not in page  # there is no gateway


def test_a_key_is_added_and_removed_on_the_page_and_had_again_at_a_click(
    visit: Callable[[], Visitor], app: RunningApp
):
    visitor = visit()
    visitor.get("ssh")
    visitor.post(PREFIX + "ssh", {"step": "add", "key": f"{ED25519} ann@laptop", "title": ""})
    assert "ann@laptop" in text(visitor.answer.text) and "Added" in text(visitor.answer.text)
    made = ssh_keys.of_owner(app.site, "ann")[0]
    assert made.fingerprint in visitor.answer.text
    visitor.post(PREFIX + "ssh", {"step": "remove", "id": made.id})
    assert ssh_keys.of_owner(app.site, "ann") == [] and "Removed" in text(visitor.answer.text)
    visitor.press("ssh")  # Undo is the first form of the page
    assert [key.fingerprint for key in ssh_keys.of_owner(app.site, "ann")] == [made.fingerprint]
    assert ssh_keys.of_owner(app.site, "ann")[0].title == "ann@laptop"


def test_a_refused_key_is_shown_again_unless_it_was_a_secret(visit: Callable[[], Visitor]):
    visitor = visit()
    visitor.post(PREFIX + "ssh", {"step": "add", "key": f"{ED25519[:-8]}", "title": "laptop"})
    assert visitor.answer.status_code == 400 and "damaged" in text(visitor.answer.text)
    assert ED25519[:-8] in visitor.answer.text and 'value="laptop"' in visitor.answer.text
    visitor.post(PREFIX + "ssh", {"step": "add", "key": PRIVATE, "title": ""})
    assert "must never leave your computer" in text(visitor.answer.text) and "b3BlbnNzaC1" not in visitor.answer.text


@pytest.mark.parametrize("form", [{}, {"step": "no"}, {"step": "remove", "id": "abcdefgh"},
                                  {"step": "add", "key": ED25519, "title": "x" * 300}])  # fmt: skip
def test_a_form_that_makes_no_sense_is_refused_on_the_page(visit: Callable[[], Visitor], form: dict[str, str]):
    visitor = visit()
    visitor.post(PREFIX + "ssh", form)
    assert visitor.answer.status_code in (400, 404) and "Your keys" in text(visitor.answer.text)


def test_the_gateway_s_lines_can_be_used_as_they_are(visit: Callable[[], Visitor], app: RunningApp, ann: httpx.Client):
    give(app, gateway=("ssh.example.org", 2222), login="jovyan")
    visitor = visit()
    page = text(visitor.get("ssh"))
    assert f"@cert-authority ann,ssh.example.org {ann.get('ssh').json()['authority']}" in page
    assert "ssh -J ann@ssh.example.org:2222 jovyan@ann" in page
    for start in (NOW, NOW):  # the second one's server has a name of its own
        found = booked(app, start=start, hours=2)
    running(app, found)
    assert f"ssh -J ann@ssh.example.org:2222 -o HostKeyAlias=ann jovyan@ann--{found.id}" in text(visitor.get("ssh"))


def test_no_title_becomes_markup(visit: Callable[[], Visitor], app: RunningApp):
    ssh_keys.add(app.site, "ann", ED25519, HOSTILE, actor=Actor("ann"), now=NOW)
    assert "<script>alert" not in visit().get("ssh")
    ssh_keys.remove(app.site, "ann", ssh_keys.of_owner(app.site, "ann")[0].id, actor=Actor("ann"), now=NOW)


def test_home_copies_the_command_for_a_server_that_runs(visit: Callable[[], Visitor], app: RunningApp):
    found = booked(app, hours=2)
    visitor = visit()
    assert f'data-copy-text="mlmp ssh {found.id}"' not in visitor.get()
    running(app, found)
    assert f'data-copy-text="mlmp ssh {found.id}"' in visitor.get()
    assert f"mlmp ssh {found.id}" in visitor.get("ssh")
    give(app, enabled=False)
    assert "mlmp ssh" not in visitor.get()


def test_the_audit_log_says_it_in_words(app: RunningApp):
    ssh_keys.add(app.site, "ann", ED25519, "laptop", actor=Actor("ann"), now=NOW)
    admin = Visitor(app, "admin-token")
    page = admin.get("admin/audit")
    admin.http.close()
    assert "SSH key added" in page and "laptop" in page


def test_whose_keys_change_is_told_to_nobody_s_open_pages(app: RunningApp, ben: httpx.Client):
    with following(app, "ben-token") as events:
        ssh_keys.add(app.site, "ann", ED25519, actor=Actor("ann"), now=NOW)
        app.feed.wake()
        made = ben.post("reservations", json={"profile": "gpu", "duration": "1h"}).json()
        kind, data = events.anything()
    assert (kind, data["id"]) == ("reservation", made["id"])
