"""Who is let in, and who is known no more: the rules that all logins share, with the hub's own database."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from jupyterhub import crypto
from tornado import web

from mlmp_spawner.logins.ldap import LDAPLogin
from tests.login.hub import Book, Hub


async def test_who_was_let_in_once_is_not_let_in_for_ever_because_others_are_named() -> None:
    """JupyterHub would add everybody to ``allowed_users`` as soon as that names somebody."""
    login = LDAPLogin(allowed_users={"boss"}, allowed_groups={"gpu-users"})
    person = Hub(login).person("ann")
    login.add_user(person)
    said = {"name": "ann", "admin": None, "auth_state": {"ldap_groups": []}}
    assert not await login.check_allowed("ann", said)
    assert await login.check_allowed("boss", said)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hub's key for what it remembers of logins."""
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", secrets.token_hex(32))
    crypto.CryptKeeper.clear_instance()
    yield
    crypto.CryptKeeper.clear_instance()


@pytest.mark.parametrize("allowed", [set(), {"ann"}], ids=["who is let in no more", "who is let in"])
async def test_tokens_that_were_renewed_are_kept_whatever_comes_next(allowed: set[str], key: None) -> None:
    """The ones before them are used up: without the new ones, nobody could be asked about again."""
    login = Book(enable_auth_state=True, allowed_users=allowed)
    ann = Hub(login).person("ann")
    await ann.save_auth_state({"refresh_token": "used up"})
    login.says = {"ann": {"name": "ann", "auth_state": {"refresh_token": "new"}}}
    assert await login.look(ann) is bool(allowed)
    assert await ann.get_auth_state() == {"refresh_token": "new"}


async def test_a_login_while_nobody_answers_says_so() -> None:
    with pytest.raises(web.HTTPError) as caught:
        await Book().get_authenticated_user(None, {"username": "ann", "password": "any"})
    assert caught.value.status_code == 503
    assert str(caught.value) == "HTTP 503: Service Unavailable (The book is lent out, 100% of it.)"
