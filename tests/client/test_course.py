"""``mlmp course`` against the real service, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlmp_spawner.client.commands.course import LARGEST
from tests.client.answers import me
from tests.client.conftest import CommandLine
from tests.client.standin import Answer, StandIn
from tests.client.test_real_service import app, done, of
from tests.operations.conftest import site
from tests.web.harness import RunningApp

__all__ = ["app", "site"]

YAML = 'name: ml\ntitle: "Deep Learning"\nprofile: gpu\nseats: 4\nstudents: [ann, zoe]\n'


@pytest.fixture
def teacher(app: RunningApp, tmp_path: Path) -> CommandLine:
    """ben, who may run courses."""
    return of(app, "teacher", tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "ml.yaml"
    made.write_text(YAML)
    return made


def test_a_course_is_applied_from_a_file_shown_and_removed(teacher: CommandLine, file: Path) -> None:
    would = done(teacher("course", "apply", str(file), "--dry-run"))
    assert "Course ml would be made." in would.out
    assert "+ zoe  student, never logged in" in would.out and "+ ann  student\n" in would.out
    assert "You are in no course" in done(teacher("course", "ls")).out
    assert "Course ml is made." in done(teacher("course", "apply", str(file))).out
    assert "so already" in done(teacher("course", "apply", str(file))).out
    file.write_text(YAML.replace("seats: 4", "seats: 6\nsetup: 5m").replace("[ann, zoe]", "[ann]"))
    changed = done(teacher("course", "apply", str(file)))
    rows = [line.split() for line in changed.out.splitlines()]
    assert ["seats", "4", "6"] in rows and ["setup", "–", "5m"] in rows and ["-", "zoe"] in rows
    listed = done(teacher("course", "ls")).out
    assert "Deep Learning" in listed and "6 x 1 gpu" in listed and "1 instructor, 1 student" in listed
    assert "started before    5m" in done(teacher("course", "show", "ml")).out
    assert done(teacher("course", "remove", "ml")).out == "Course ml is removed.\n"
    assert teacher("course", "show", "ml").status == 1


def test_what_is_shown_as_yaml_can_be_applied(teacher: CommandLine, file: Path) -> None:
    done(teacher("course", "apply", str(file)))
    said = done(teacher("course", "show", "ml", "--yaml")).out
    assert "so already" in done(teacher("course", "apply", "-", stdin=said)).out


def test_mistakes_are_named_with_their_lines(teacher: CommandLine, file: Path) -> None:
    file.write_text(YAML.replace("seats: 4", "seats: four"))
    ran = teacher("course", "apply", str(file))
    assert ran.status == 2 and "seats: must be a whole number, not 'four'" in ran.err


def test_a_roster_from_a_file_shows_first_what_it_does(teacher: CommandLine, file: Path, tmp_path: Path) -> None:
    done(teacher("course", "apply", str(file)))
    people = tmp_path / "people.csv"
    people.write_text("Email address;Name\neve@uni.org;Eve\n;Nobody\n", encoding="utf-16")
    asked = ("course", "roster", "import", "ml", str(people), "--domain", "uni.org")
    would = done(teacher(*asked, "--dry-run"))
    assert "would change" in would.out and "+ eve  student" in would.out
    assert "line 3: 'Nobody' has neither a login nor a mail address" in would.err
    assert "\neve" not in done(teacher("course", "roster", "show", "ml")).out
    done(teacher(*asked))
    shown = [line.split() for line in done(teacher("course", "roster", "show", "ml")).out.splitlines()]
    assert ["eve", "student"] in shown and ["zoe", "student", "never", "logged", "in"] in shown
    assert teacher(*asked, "--whole").status == 1  # whoever line 3 means would be taken off


def test_names_are_put_on_a_roster_and_taken_off(teacher: CommandLine, file: Path) -> None:
    done(teacher("course", "apply", str(file)))
    assert "+ eve  instructor" in done(teacher("course", "roster", "add", "ml", "Eve", "--role", "instructor")).out
    assert "~ eve  student" in done(teacher("course", "roster", "add", "ml", "eve", "--role", "student")).out
    assert "so already" in done(teacher("course", "roster", "add", "ml", "eve")).out
    assert "- eve" in done(teacher("course", "roster", "remove", "ml", "eve", "--dry-run")).out
    gone = done(teacher("course", "roster", "remove", "ml", "eve", "--json")).json
    assert (gone["removed"], gone["dry_run"]) == (["eve"], False)
    assert teacher("course", "roster", "remove", "ml", "ben").status == 1  # nobody would run it


def test_json_is_the_answer_of_the_service(teacher: CommandLine, file: Path) -> None:
    made = done(teacher("course", "apply", str(file), "--json")).json
    assert made["created"] is True and made["course"]["name"] == "ml"
    assert done(teacher("course", "show", "ml", "--json")).json["group"] == "course-ml"
    assert [one["name"] for one in done(teacher("course", "ls", "--json")).json["items"]] == ["ml"]
    assert len(done(teacher("course", "roster", "show", "ml", "--json")).json["items"]) == 3
    assert done(teacher("course", "remove", "ml", "--json")).json == {"removed": "ml"}


def test_a_student_sees_the_course_and_not_its_file(
    teacher: CommandLine, file: Path, app: RunningApp, tmp_path: Path
) -> None:
    done(teacher("course", "apply", str(file)))
    ann = of(app, "ann", tmp_path)
    assert "you are" in done(ann("course", "show", "ml")).out
    assert ann("course", "show", "ml", "--yaml").status == 1
    refused = ann("course", "roster", "show", "ml")
    assert refused.status == 1 and "Only its instructors" in refused.err
    made = ann("course", "apply", str(file))
    assert made.status == 1 and "scope custom:mlmp:courses" in made.err


@pytest.mark.parametrize(
    ("content", "status"), [(None, 1), (b"\xff\xfe\x00", 2), (b"\x80abc", 2), (b"#" * (LARGEST + 1), 2)]
)
def test_a_file_that_can_not_be_read_is_said(
    mlmp: CommandLine, tmp_path: Path, content: bytes | None, status: int
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    for asked in (("course", "apply"), ("course", "roster", "import", "ml")):
        ran = mlmp(*asked, str(file))
        assert (ran.status, ran.out) == (status, ""), ran.err


def test_a_name_goes_into_one_part_of_the_address_and_no_answer_steers_the_terminal(
    mlmp: CommandLine, server: StandIn
) -> None:
    server.on["GET me"] = Answer(200, me())
    course = dict.fromkeys(("role", "members"), None) | {"nodes": [], "units": 1, "seats": 1, "runs": True}
    course |= {"name": "ml", "title": "\x1b[31mx", "profile": "gpu", "setup": "5m", "grace": "5m"}
    course |= {"yaml": "title: \x1b[31m\n"}
    server.on["GET courses/..%2F.."] = Answer(404, {"code": "not_found", "detail": "no"})
    server.on["GET courses/ml"] = Answer(200, course)
    mlmp("course", "show", "../..")
    assert "/.." not in server.asked[-1].path.replace("%2E", ".").replace("..%2F..", "")
    for option in ((), ("--yaml",)):
        assert "\x1b" not in done(mlmp("course", "show", "ml", *option)).out
    server.on["GET courses/ml"] = Answer(200, {"items": []})
    assert mlmp("course", "show", "ml").status == 3
