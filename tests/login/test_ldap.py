"""Log in with a real directory over TLS, with the example that people copy; and what a change there changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlmp_spawner.logins.ldap import LDAPLogin
from tests.live import Person, Site, wait_for
from tests.login.directory import Directory

EXAMPLE = Path(__file__).parents[2] / "hub_config" / "examples" / "ldap.py"
CHECK_EVERY, GRACE, STOP = 1, 2, 10
CATALOG = """\
nodes: {here: {accelerators: [{resource: mlmp.dev/slot, count: 8}]}}
images: {lab: {reference: example.org/lab:1}}
profiles: {cpu: {title: CPU, resource: mlmp.dev/slot}}
limits: {everybody: {units_at_once: 4}, groups: {students: {units_at_once: 1}}}
"""
API = "/services/mlmp/api/v1"


class Here:
    """MLMP and the directory of its people."""

    def __init__(self, site: Site, directory: Directory) -> None:
        self.site = site
        self.directory = directory

    def owners(self) -> list[str]:
        """Whose servers run."""
        return [record.owner for record in self.site.servers()]

    def refuses(self, name: str, password: str) -> bool:
        """Whether nobody gets in so."""
        return self.site.person(name, password).token == ""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    directory = Directory()
    root = tmp_path_factory.mktemp("ldap")
    settings = EXAMPLE.read_text(encoding="utf-8").replace('"ldap.example.org"', '"localhost"')
    settings += f"""
import ssl
c.LDAPLogin.server_port = {directory.port}
c.LDAPLogin.tls_kwargs = {{"validate": ssl.CERT_REQUIRED, "ca_certs_file": {str(directory.ca)!r}}}
c.LDAPLogin.search_filter = "(!(employeeType=left))"
c.MLMPLogin.check_every = {CHECK_EVERY}
c.MLMPLogin.grace = {GRACE}
c.Authenticator.auth_refresh_age = 1
c.LDAPLogin.never_asked = {{"robot"}}
"""
    os.environ["LDAP_PASSWORD"] = "the reader's"
    site = Site(root, settings=settings, simulate=False)
    (site.catalog / "catalog.yaml").write_text(CATALOG)
    try:
        yield Here(site.start(), directory)
    finally:
        site.close()
        directory.close()
        del os.environ["LDAP_PASSWORD"]


def me(person: Person) -> dict:
    """What the service knows of them."""
    answer = person.api.get(f"{API}/me")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_somebody_logs_in_with_their_groups(here: Here) -> None:
    here.directory.person("ann", "ann's own", "gpu-users", "students", "gpu-instructors")
    found = me(here.site.person("ann", "ann's own"))
    assert found["groups"] == ["gpu-instructors", "gpu-users", "students"]
    assert found["limits"]["units_at_once"] == 1
    assert "custom:mlmp:courses" in found["scopes"]


@pytest.mark.parametrize("password", ["wrong", "", "   "], ids=["wrong", "empty", "blank"])
def test_nobody_gets_in_with_a_password_that_is_not_theirs(password: str, here: Here) -> None:
    here.directory.person(f"ben{len(password)}", "ben's own", "gpu-users")
    assert here.refuses(f"ben{len(password)}", password)


@pytest.mark.parametrize("name", ["*", "a*", "car)(uid=*", "uid=car,ou=people"])
def test_a_name_is_a_name_and_no_question_to_the_directory(name: str, here: Here) -> None:
    if name == "*":
        here.directory.person("car", "car's own", "gpu-users")
    assert here.refuses(name, "car's own")


def test_who_is_in_no_group_that_is_let_in_stays_outside(here: Here) -> None:
    here.directory.person("eve", "eve's own", "students")
    assert here.refuses("eve", "eve's own")


def test_an_admin_of_the_directorys_group_is_admin_until_they_leave_it(here: Here) -> None:
    here.directory.person("ida", "ida's own", "gpu-users", "gpu-admins")
    person = here.site.person("ida", "ida's own")
    assert person.api.get("/hub/api/users/ida").json()["admin"] is True
    here.directory.leave("ida", "gpu-admins")
    wait_for(lambda: person.api.get("/hub/api/users/ida").json()["admin"] is False, 20, "the end of it")


@pytest.mark.parametrize("how", ["removed", pytest.param("no member any more", marks=pytest.mark.faults)])
def test_whoever_is_not_known_any_more_loses_servers_and_tokens_by_the_stated_time(how: str, here: Here) -> None:
    name = how.split()[0]
    here.directory.person(name, "my own", "gpu-users")
    person = here.site.person(name, "my own")
    assert person.start(profile="cpu", duration="20m").status_code == 201
    assert name in here.owners()
    if how == "removed":
        here.directory.remove(name)
    else:
        here.directory.leave(name, "gpu-users")
    wait_for(lambda: person.api.get("/hub/api/user").status_code == 403, CHECK_EVERY + GRACE + STOP, "the token's end")
    wait_for(lambda: name not in here.owners(), STOP, "the server's end")
    assert here.refuses(name, "my own")


def test_without_a_certificate_that_is_trusted_no_password_is_sent(here: Here) -> None:
    login = LDAPLogin(server_address="localhost", server_port=here.directory.port)
    with pytest.raises(Exception, match=r"(?i)certificate"):
        login.get_connection("uid=ann,ou=people,dc=example,dc=org", "ann's own")
