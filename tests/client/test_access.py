"""Signing in, and where the token is kept."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mlmp_spawner.client import config
from mlmp_spawner.client.problems import NotSignedIn
from mlmp_spawner.errors import ConfigurationError, Invalid
from tests.client.answers import me
from tests.client.conftest import TOKEN, CommandLine
from tests.client.standin import Answer, StandIn, problem


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "mlmp" / "access.json"


@pytest.mark.parametrize(
    "text",
    [
        "https://hub.example.org",
        "hub.example.org",
        "https://hub.example.org/hub/home",
        "https://hub.example.org/user/ann/lab?x=1",
        "https://hub.example.org/services/mlmp/",
        " https://hub.example.org/hub/login?next=%2Fhub%2F ",
    ],
)
def test_any_address_of_the_hub_will_do(text: str) -> None:
    assert config.hub_url(text) == "https://hub.example.org/"


def test_a_hub_under_a_path_or_on_a_port_keeps_it() -> None:
    assert config.hub_url("http://[::1]:8000/jupyter/hub/token") == "http://[::1]:8000/jupyter/"


@pytest.mark.parametrize("text", ["ftp://x", "https://", "https://ann:secret@x/", "http://x:port/", "file:///etc"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"https://hub\.example\.org/"):
        config.hub_url(text)


def test_login_asks_for_a_token_says_where_to_make_one_and_keeps_it(
    nobody: CommandLine, server: StandIn, kept: Path
) -> None:
    server.on["GET me"] = Answer(200, me())
    ran = nobody("login", server.url, stdin=f"{TOKEN}\n")
    assert ran.status == 0, ran.err
    assert f"{server.url}hub/token" in ran.err
    assert TOKEN not in ran.out + ran.err
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert nobody("whoami").out.startswith("ann on ")


def test_a_token_from_standard_input_is_not_asked_for(nobody: CommandLine, server: StandIn, kept: Path) -> None:
    server.on["GET me"] = Answer(200, me())
    ran = nobody("login", server.url, "--token-stdin", "--json", stdin=f"{TOKEN}\n")
    assert (ran.status, ran.err) == (0, "")
    assert ran.json == {"url": server.url, "name": "ann", "file": str(kept)}


def test_a_token_that_the_hub_refuses_is_not_kept(nobody: CommandLine, server: StandIn, kept: Path) -> None:
    server.on["GET me"] = problem(401, "not_signed_in", "Sign in first.")
    ran = nobody("login", server.url, "--token-stdin", stdin="wrong\n")
    assert ran.status == 3
    assert not kept.exists()


@pytest.mark.parametrize("token", ["", "two words", "é", "x\x1b[31m"])
def test_what_is_no_token_is_refused_before_it_is_sent(nobody: CommandLine, server: StandIn, token: str) -> None:
    assert nobody("login", server.url, "--token-stdin", stdin=f"{token}\n").status == 2
    assert server.asked == []


def test_logout_forgets_the_token(nobody: CommandLine, server: StandIn, kept: Path) -> None:
    config.save(config.Access(server.url, TOKEN), kept)
    assert nobody("logout").status == 0
    assert not kept.exists()
    assert nobody("ls").status == 3
    assert "Nobody was signed in" in nobody("logout").out


def test_who_never_signed_in_is_told_how(nobody: CommandLine) -> None:
    ran = nobody("ls")
    assert ran.status == 3
    assert "mlmp login URL" in ran.err


def test_the_environment_wins_over_what_is_kept(kept: Path) -> None:
    config.save(config.Access("https://kept/", "kept"), kept)
    environment = {"MLMP_URL": "https://other/", "MLMP_TOKEN": "other"}
    found = config.load(environment, kept)
    assert (found.url, found.token) == ("https://other/", "other")
    assert config.load({"MLMP_TOKEN": "other"}, kept).token == "other"
    assert config.load({}, kept).token == "kept"


def test_a_kept_token_goes_to_no_other_hub(kept: Path) -> None:
    config.save(config.Access("https://kept/", "kept"), kept)
    with pytest.raises(NotSignedIn):
        config.load({"MLMP_URL": "https://other/"}, kept)
    assert config.load({"MLMP_URL": "https://kept/hub/home"}, kept).token == "kept"


def test_a_file_that_others_can_read_is_refused_with_the_remedy(kept: Path) -> None:
    config.save(config.Access("https://kept/", "kept"), kept)
    kept.chmod(0o644)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {kept}"):
        config.load({}, kept)


@pytest.mark.parametrize("text", ["", "[]", '{"url": "https://x/"}', '{"url": "ftp://x", "token": "x"}', "\x00"])
def test_a_file_that_is_broken_is_refused_with_the_remedy(kept: Path, text: str) -> None:
    config.save(config.Access("https://kept/", "kept"), kept)
    kept.write_text(text)
    with pytest.raises(ConfigurationError, match=f"rm {kept}"):
        config.load({}, kept)


def test_a_hub_without_encryption_is_warned_about_unless_it_is_this_machine() -> None:
    assert config.in_the_clear("http://hub.example.org/")
    assert not config.in_the_clear("https://hub.example.org/")
    assert not config.in_the_clear("http://127.0.0.1:8000/")
