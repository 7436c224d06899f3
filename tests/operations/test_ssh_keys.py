"""Registering, finding and removing keys, on both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, update

from mlmp_spawner.errors import Conflict, Invalid, NotFound
from mlmp_spawner.operations import history, ssh_keys
from mlmp_spawner.operations.history import Filter
from mlmp_spawner.operations.site import Site
from mlmp_spawner.store.tables import users
from mlmp_spawner.store.transaction import transaction
from mlmp_spawner.units import MINUTE
from tests.operations.conftest import NOW, admin, ann, ben
from tests.rules.test_ssh_keys import ED25519, in_hardware


def add(site: Site, owner: str = "ann", key: str = ED25519, title: str = "laptop", now: int = NOW) -> ssh_keys.Key:
    return ssh_keys.add(site, owner, key, title, actor=ann if owner == "ann" else ben, now=now)


def test_a_key_is_kept_in_its_one_form_and_found_by_its_fingerprint(site: Site):
    made = add(site, key=f" {ED25519} ann@laptop\n", title="")
    assert made.title == "ann@laptop" and made.line == ED25519
    assert ssh_keys.of_owner(site, "ann") == [made]
    assert ssh_keys.find(site, "ann", made.fingerprint) == made
    assert ssh_keys.find(site, "ben", made.fingerprint) is None


def test_the_same_key_twice_is_refused_however_it_is_written(site: Site):
    made = add(site)
    with pytest.raises(Conflict, match="already, as 'laptop'") as refused:
        add(site, key=f"{ED25519} another comment", title="again")
    assert refused.value.data["id"] == made.id
    assert len(ssh_keys.of_owner(site, "ann")) == 1


def test_two_people_may_have_the_same_key(site: Site):
    """Anyone may register anyone's public key: to register it opens nothing of the other's."""
    hers, his = add(site), add(site, "ben")
    assert ssh_keys.of_owner(site, "ann") == [hers] and ssh_keys.of_owner(site, "ben") == [his]
    ssh_keys.remove(site, "ben", his.id, actor=ben, now=NOW)
    assert ssh_keys.of_owner(site, "ann") == [hers]


def test_a_key_is_removed_by_its_owner_s_list_alone(site: Site):
    made = add(site)
    with pytest.raises(NotFound):
        ssh_keys.remove(site, "ben", made.id, actor=ben, now=NOW)
    assert ssh_keys.remove(site, "ann", made.id, actor=admin, now=NOW) == made
    with pytest.raises(NotFound, match="no such key"):
        ssh_keys.remove(site, "ann", made.id, actor=ann, now=NOW)


def test_the_history_says_who_added_and_removed_whose_key(site: Site):
    made = add(site)
    ssh_keys.remove(site, "ann", made.id, actor=admin, now=NOW + 1)
    found, _ = history.audit(site.engine, Filter(person="ann"))
    assert [(e.action, e.actor, e.owner, e.details["fingerprint"]) for e in found] == [
        ("ssh_key_removed", "root", "ann", made.fingerprint),
        ("ssh_key_added", "ann", "ann", made.fingerprint),
    ]


def test_a_namesake_of_a_deleted_user_has_none_of_their_keys(site: Site):
    made = add(site)
    with transaction(site.engine) as connection:
        connection.execute(delete(users).where(users.c.name == "ann"))
    assert ssh_keys.of_owner(site, "ann") == []
    with transaction(site.engine) as connection:
        connection.execute(users.insert().values(id=77, name="ann"))
    assert ssh_keys.of_owner(site, "ann") == [] and ssh_keys.find(site, "ann", made.fingerprint) is None


def test_a_renamed_user_keeps_their_keys(site: Site):
    add(site)
    with transaction(site.engine) as connection:
        connection.execute(update(users).where(users.c.name == "ann").values(name="anna"))
    assert [key.owner for key in ssh_keys.of_owner(site, "anna")] == ["anna"]
    assert ssh_keys.of_owner(site, "ann") == []


def test_nobody_s_key_is_added(site: Site):
    with pytest.raises(NotFound, match="no user 'zoe'"):
        ssh_keys.add(site, "zoe", ED25519, actor=admin, now=NOW)


def test_what_is_no_key_is_refused_by_its_field(site: Site):
    with pytest.raises(Invalid) as refused:
        add(site, key="hello")
    assert refused.value.data["errors"][0]["field"] == "key"


def test_there_is_an_end_to_the_number_of_keys(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ssh_keys, "MOST", 2)
    add(site)
    add(site, key=in_hardware())
    with pytest.raises(Conflict, match="2 keys already"):
        add(site, key=in_hardware())


def test_of_many_who_add_the_same_key_at_once_one_does(site: Site):
    start = threading.Barrier(6, timeout=60)

    def work(_: int) -> bool:
        start.wait()
        try:
            add(site)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(work, range(6))) == 1
    assert len(ssh_keys.of_owner(site, "ann")) == 1


def test_a_key_s_last_use_is_noted_once_a_minute(site: Site):
    made = add(site)
    for later, seen in ((0, 0), (MINUTE - 1, 0), (2 * MINUTE, 2 * MINUTE)):
        ssh_keys.used(site, made.id, now=NOW + later)
        assert ssh_keys.of_owner(site, "ann")[0].used_at == NOW + seen
    ssh_keys.used(site, "gone", now=NOW)  # removed meanwhile: nothing to note
