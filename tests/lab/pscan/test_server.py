"""PScan in a real Jupyter server: who may ask, what is answered, and the rules under which a browser gets a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.lab.pscan.served import GREEN, TOKEN, lab


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Path(tmp_path_factory.mktemp("work"))
    for lr in ("0.1", "1e-3"):
        for bs in (8, 16):
            folder = made / "runs" / f"lr={lr}" / f"bs={bs}"
            folder.mkdir(parents=True)
            (folder / "loss.png").write_bytes(GREEN)
            (folder / "m.jsonl").write_text('{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n')
    (made / "runs" / "notes.md").write_text("<script>alert(1)</script>")
    for name in ("a.html", "a.pdf", "a.svg", "a.js", "model.pt"):
        (made / "runs" / name).write_text("<script>alert(1)</script>")
    (made / "secret.txt").write_text("secret")
    (made / "runs" / "way.txt").symlink_to(made / "secret.txt")
    (made / "runs" / "up").symlink_to(made)
    return made


@pytest.fixture(scope="module")
def url(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with lab(work, Path(tmp_path_factory.mktemp("home"))) as found:
        yield f"{found}pscan"


@pytest.fixture(scope="module")
def owner(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(headers={"Authorization": f"token {TOKEN}"}, timeout=60) as client:
        yield client


def rules(answer: httpx.Response) -> set[str]:
    return {rule.strip() for rule in answer.headers["Content-Security-Policy"].split(";")}


@pytest.mark.parametrize("path", ["", "/api/look?root=runs", "/api/cell?root=runs&path=notes.md",
                                  "/file?root=runs&path=a.html", "/export?root=runs"])  # fmt: skip
def test_nobody_but_the_owner_gets_anything(url: str, path: str):
    answer = httpx.get(url + path)
    assert answer.status_code in (302, 403)
    assert answer.headers.get("Location", "/login").startswith("/login")


def test_the_page_runs_its_own_scripts_alone_and_is_framed_by_its_own_server_alone(url: str, owner: httpx.Client):
    answer = owner.get(url)
    assert answer.status_code == 200
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'self'"} <= rules(answer)
    assert httpx.get(f"{url}/static/main.js").status_code == 200
    assert httpx.get(f"{url}/static/../handlers.py").status_code == 404
    assert httpx.get(f"{url}/static/%2e%2e/handlers.py").status_code in (403, 404)


def test_a_folder_that_nobody_described_is_told_with_axes_counts_and_cells(url: str, owner: httpx.Client):
    found = owner.get(f"{url}/api/look", params={"root": "runs"}).json()
    assert found["pattern"] == "lr={lr}/bs={bs}/{file}"
    assert [(axis["name"], axis["values"]) for axis in found["axes"]] == [
        ("lr", ["1e-3", "0.1"]), ("bs", ["8", "16"]), ("file", ["loss.png", "m.jsonl"]),
    ]  # fmt: skip
    assert (found["files"], found["matched"], found["unmatched"], found["missing"], found["links"]) == (14, 8, 6, 0, 2)
    assert "notes.md" in found["examples"]
    assert found["layout"] == {"rows": ["lr"], "columns": ["bs"], "at": {"file": "loss.png"}}
    assert found["cells"][0][1] == ["lr=1e-3/bs=16/loss.png", "image", 0]


def test_what_was_asked_for_is_shown(url: str, owner: httpx.Client):
    asked = {"root": "runs", "pattern": r"lr=(?P<lr>[^/]+)/bs=(?P<bs>\d+)/(?P<file>.+)", "rows": "bs,file",
             "columns": "", "at.lr": "0.1", "brief": "1"}  # fmt: skip
    found = owner.get(f"{url}/api/look", params=asked).json()
    assert found["rows"] == [["8", "loss.png"], ["8", "m.jsonl"], ["16", "loss.png"], ["16", "m.jsonl"]]
    assert found["cells"][3] == [["lr=0.1/bs=16/m.jsonl", "curves", 0]]
    assert "axes" not in found


def test_files_that_came_meanwhile_are_seen_when_one_looks_again(url: str, owner: httpx.Client, work: Path):
    (work / "late").mkdir()
    (work / "late" / "1.png").touch()
    asked = {"root": str(work / "late"), "pattern": "{n}.png"}
    assert owner.get(f"{url}/api/look", params=asked).json()["files"] == 1
    (work / "late" / "2.png").touch()
    assert owner.get(f"{url}/api/look", params=asked).json()["files"] == 1
    assert owner.get(f"{url}/api/look", params=asked | {"fresh": "1"}).json()["files"] == 2


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [({"root": "runs", "pattern": "("}, 400, "names no parameter"),
     ({"root": "runs", "pattern": "(?P<a>(a)\\1)"}, 400, "none of RE2"),
     ({"root": "gone"}, 404, "There is no folder"), ({"root": "secret.txt"}, 404, "There is no folder"),
     ({"root": "x" * 4001}, 400, "no name of a folder")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(
    url: str, owner: httpx.Client, asked: dict[str, str], status: int, words: str
):
    answer = owner.get(f"{url}/api/look", params=asked)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert words in answer.json()["detail"]


def test_an_expression_that_backtracks_for_ever_elsewhere_is_answered(url: str, owner: httpx.Client, work: Path):
    (work / "hostile").mkdir()
    for n in range(20):
        (work / "hostile" / ("a" * 200 + f"{n}!")).touch()
    found = owner.get(f"{url}/api/look", params={"root": "hostile", "pattern": "(?P<x>(a+)+)$"}).json()
    assert (found["files"], found["matched"]) == (20, 0)


@pytest.mark.parametrize("where", ["file", "api/cell"])
@pytest.mark.parametrize(
    "path", ["../secret.txt", "way.txt", "up/secret.txt", "/etc/passwd", "", ".", "lr=0.1", "gone"]
)
def test_nothing_but_files_below_the_folder_is_given(url: str, owner: httpx.Client, where: str, path: str):
    answer = owner.get(f"{url}/{where}", params={"root": "runs", "path": path})
    assert answer.status_code == 404
    assert "secret" not in answer.text.replace("secret.txt", "")


def test_a_picture_is_given_as_it_is_and_again_only_if_it_changed(url: str, owner: httpx.Client):
    asked = {"root": "runs", "path": "lr=0.1/bs=8/loss.png"}
    answer = owner.get(f"{url}/file", params=asked)
    assert (answer.content, answer.headers["Content-Type"]) == (GREEN, "image/png")
    again = owner.get(f"{url}/file", params=asked, headers={"If-None-Match": answer.headers["Etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_html_gets_a_sandbox_without_scripts_and_asks_nothing_of_anywhere(url: str, owner: httpx.Client):
    answer = owner.get(f"{url}/file", params={"root": "runs", "path": "a.html"})
    assert {"sandbox", "default-src 'none'", "frame-ancestors 'self'"} <= rules(answer)
    assert not [rule for rule in rules(answer) if rule.startswith("script-src")]


def test_html_that_runs_scripts_has_neither_an_origin_nor_a_connection(url: str, owner: httpx.Client):
    answer = owner.get(f"{url}/file", params={"root": "runs", "path": "a.html", "scripts": "1"})
    assert {"sandbox allow-scripts", "default-src 'none'"} <= rules(answer)
    assert not any("connect-src" in rule or "allow-same-origin" in rule for rule in rules(answer))


@pytest.mark.parametrize("name", ["a.svg", "a.pdf", "a.js", "model.pt", "notes.md"])
def test_no_other_file_runs_anything(url: str, owner: httpx.Client, name: str):
    answer = owner.get(f"{url}/file", params={"root": "runs", "path": name})
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in rules(answer)
    assert "sandbox" in rules(answer) or name == "a.pdf"
    shown = name in ("a.svg", "a.pdf")
    assert ("attachment" in answer.headers.get("Content-Disposition", "")) is not shown


def test_a_text_and_plots_are_pieces_of_html_without_anything_that_runs(url: str, owner: httpx.Client):
    text = owner.get(f"{url}/api/cell", params={"root": "runs", "path": "notes.md"}).text
    assert text == "<pre>&lt;script&gt;alert(1)&lt;/script&gt;</pre>"
    assert "<svg" in owner.get(f"{url}/api/cell", params={"root": "runs", "path": "lr=0.1/bs=8/m.jsonl"}).text


def test_a_view_is_exported_as_one_file_that_needs_no_other(url: str, owner: httpx.Client):
    asked = {"root": "runs", "pattern": "lr={lr}/bs={bs}/{file}", "rows": "lr,file", "columns": "bs"}
    answer = owner.get(f"{url}/export", params=asked)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="pscan.html"'
    assert answer.text.count('src="data:image/png;base64,') == 4
    assert answer.text.count("<svg") == 4
    assert "<script" not in answer.text and "default-src &#x27;none&#x27;" in answer.text
