"""Handing in on a lab machine, by real accounts: only the student and who teaches now come to it."""

from __future__ import annotations

import json
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlmp_spawner.errors import NotAllowed
from mlmp_spawner.lab import course_hand_in
from mlmp_spawner.rules.courses import Course, Member
from mlmp_spawner.spawners import hand_in
from mlmp_spawner.spawners.hand_in import Place, prepare
from mlmp_spawner.store import courses
from mlmp_spawner.store.engine import make_engine
from mlmp_spawner.store.transaction import transaction
from tests.live import Site, wait_for
from tests.system_users import SystemUser, pam_service, runnable_by_all, service_account, system_user, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

COURSE = Course(name="ml", title="Deep Learning", profile="gpu", seats=4, hand_in=True, created_at=1)


@dataclass
class Room:
    """A machine with two students, one who teaches, and one who taught another course."""

    root: Path
    ann: SystemUser
    ben: SystemUser
    eve: SystemUser
    mallory: SystemUser

    def come(self, user: SystemUser, role: str, *teachers: SystemUser, course: Course = COURSE) -> Path:
        """A server of somebody's starts; where they hand in, or read."""
        place = Place(course, role, tuple(one.name for one in teachers))  # type: ignore[arg-type]
        return Path(prepare(self.root, pwd.getpwnam(user.name), [place])["ml"])


@pytest.fixture
def room() -> Iterator[Room]:
    with ExitStack() as stack:
        around = Path(tempfile.mkdtemp(prefix="mlmp-test-", dir="/var/lib"))
        stack.callback(shutil.rmtree, around)
        around.chmod(0o755)
        people = [stack.enter_context(system_user()) for _ in range(4)]
        yield Room(around / "hand-in", *people)


def reads(user: SystemUser, path: Path) -> bool:
    return user.run("cat", str(path)).returncode == 0


def lists(user: SystemUser, path: Path) -> bool:
    return user.run("ls", str(path)).returncode == 0


def writes(user: SystemUser, path: Path) -> bool:
    return user.run("sh", "-c", f"umask 077; echo done > '{path}'").returncode == 0


def test_a_student_hands_in_and_only_who_teaches_reads_it(room: Room) -> None:
    mine, his = room.come(room.ann, "student", room.eve), room.come(room.ben, "student", room.eve)
    course = room.come(room.eve, "instructor", room.eve)
    assert writes(room.ann, mine / "one.ipynb") and writes(room.ben, his / "one.ipynb")
    assert reads(room.ann, mine / "one.ipynb")
    assert room.eve.run("ls", str(course)).stdout.split() == sorted([room.ann.name, room.ben.name])
    assert reads(room.eve, mine / "one.ipynb") and reads(room.eve, his / "one.ipynb")
    for stranger, place in ((room.ben, mine), (room.ann, his), (room.mallory, mine)):
        assert not reads(stranger, place / "one.ipynb") and not lists(stranger, place) and not lists(stranger, course)
        assert not writes(stranger, place / "two.ipynb")
    assert not writes(room.eve, mine / "one.ipynb")


def test_no_mode_that_a_student_gives_lets_others_in(room: Room) -> None:
    mine = room.come(room.ann, "student", room.eve)
    assert writes(room.ann, mine / "one.ipynb")
    room.ann.run("chmod", "-R", "a+rwX", str(mine))
    assert not reads(room.ben, mine / "one.ipynb") and not writes(room.ben, mine / "two.ipynb")
    assert room.ann.run("chmod", "755", str(mine.parent)).returncode != 0
    assert room.ann.run("mv", str(mine), str(mine.parent / "other")).returncode != 0
    assert room.ann.run("ln", "-s", "/etc", str(mine.parent / "link")).returncode != 0


def test_who_teaches_changes_with_the_next_server_of_anybody(room: Room) -> None:
    mine = room.come(room.ann, "student", room.eve)
    assert writes(room.ann, mine / "one.ipynb") and reads(room.eve, mine / "one.ipynb")
    room.come(room.ben, "student", room.mallory)
    assert reads(room.mallory, mine / "one.ipynb") and not reads(room.eve, mine / "one.ipynb")
    assert not lists(room.eve, mine.parents[1]) and lists(room.mallory, mine.parents[1])


def test_another_course_of_the_same_name_shows_nothing_of_the_first(room: Room) -> None:
    mine = room.come(room.ann, "student", room.eve)
    assert writes(room.ann, mine / "one.ipynb")
    later = room.come(room.mallory, "instructor", room.mallory, course=COURSE.model_copy(update={"created_at": 2}))
    assert not reads(room.mallory, mine / "one.ipynb")
    assert room.mallory.run("ls", str(later)).stdout == ""


def test_it_is_gone_on_with_wherever_it_was_killed(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    for name in ("setxattr", "fchmod", "fchown", "listdir"):

        def killed(*_: object, **__: object) -> None:
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(hand_in.os, name, killed)
            with pytest.raises(Killed):
                room.come(room.ann, "student", room.eve)
    mine = room.come(room.ann, "student", room.eve)
    assert writes(room.ann, mine / "one.ipynb") and reads(room.eve, mine / "one.ipynb")
    assert not reads(room.ben, mine / "one.ipynb")


@pytest.mark.parametrize("what", ["of everybody", "a link", "of a user"])
def test_nothing_is_made_where_a_user_could_lead_root_elsewhere(room: Room, what: str) -> None:
    if what == "a link":
        room.root.symlink_to("/etc")
    else:
        room.root.mkdir()
        room.root.chmod(0o777 if what == "of everybody" else 0o711)
    if what == "of a user":
        shutil.chown(room.root, room.ann.name)
    with pytest.raises((NotAllowed, OSError)):
        room.come(room.ann, "student", room.eve)


def test_a_private_file_that_is_copied_there_becomes_readable(room: Room) -> None:
    mine = room.come(room.ann, "student", room.eve)
    assert writes(room.ann, room.ann.home / "x") and writes(room.ann, mine / "secret")
    room.ann.run("sh", "-c", f"mkdir -m 700 {mine}/a; cp -p {room.ann.home}/x {mine}/a/; chmod 600 {mine}/secret")
    room.ann.run("ln", str(mine / "secret"), str(mine / "twice"))
    room.ann.run("ln", "-s", "/etc/passwd", str(mine / "link"))
    assert not reads(room.eve, mine / "a" / "x")
    program = Path(course_hand_in.__file__).read_text() + f"\nopen_up(Path({str(mine)!r}))\n"
    done = room.ann.run("/usr/bin/python3", "-I", "-c", program)
    assert done.returncode == 0, done.stderr
    assert reads(room.eve, mine / "a" / "x") and not reads(room.ben, mine / "a" / "x")
    assert not reads(room.eve, mine / "secret")  # it has a name elsewhere too, as far as anybody knows


def test_a_hub_tells_each_server_where_its_user_hands_in(room: Room) -> None:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlmp-hand-in-")))
        root.chmod(0o755)
        account, service = stack.enter_context(service_account()), stack.enter_context(pam_service())
        settings = f"c.PAMAuthenticator.service = {service!r}\nc.SystemUserSpawner.cgroup = ''\n"
        settings += f"c.SystemUserSpawner.hand_in = {str(room.root)!r}\n"
        site = Site(root, auth="pam", settings=settings, wrapper=runnable_by_all())
        stack.callback(site.close)
        site.start("--account", account.name)
        engine = make_engine(f"sqlite:///{site.data}/db/mlmp.sqlite")
        stack.callback(engine.dispose)
        with transaction(engine) as connection:
            courses.insert_course(connection, COURSE)
            roles = {room.ann.name: "student", room.eve.name: "instructor"}
            people = [Member("ml", name, role, 0) for name, role in roles.items()]  # type: ignore[arg-type]
            courses.put_members(connection, "ml", people)
        places = {}
        for user in (room.ann, room.eve, room.ben):
            person = site.person(user.name, user.password)
            booking = person.book(600, units=1)
            assert person.start(reservation=booking["id"]).status_code in (201, 202)
            wait_for(lambda person=person: person.servers().get("", {}).get("ready"), 60, "the start of a server")
            places[user.name] = json.loads(person.environment().get("MLMP_HAND_IN", "{}"))
        assert places[room.ben.name] == {}
        mine = Path(places[room.ann.name]["ml"])
        assert (mine.parents[1], mine.stat().st_uid) == (Path(places[room.eve.name]["ml"]), room.ann.uid)
        assert writes(room.ann, mine / "one.ipynb") and reads(room.eve, mine / "one.ipynb")
        assert not reads(room.ben, mine / "one.ipynb")
