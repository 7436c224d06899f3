"""Files as pieces of HTML: whatever is in them, it stays text, or in a frame that can do nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mlmp_spawner.errors import NotFound
from mlmp_spawner.lab.pscan import cells
from mlmp_spawner.lab.pscan.kinds import kind_of, media_type

HOSTILE = "</pre></td><script>alert(1)</script><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    """The tags of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.append(tag)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("a.PNG", "image"), ("a.svg", "image"), ("a.pdf", "pdf"), ("a.html", "html"), ("a.csv", "table"),
     ("m.jsonl", "curves"), ("events.out.tfevents.17.host", "curves"), ("a.tfevents/x.png", "image"),
     ("a.log", "text"),
     ("README", "text"), ("model.pt", "other"), ("a.png/b", "text"), ("weights.3", "other")],
)  # fmt: skip
def test_a_name_says_how_a_file_is_shown(path: str, kind: str):
    assert kind_of(path) == kind


def test_only_what_a_browser_shows_has_a_type_of_its_own():
    assert media_type("x.png") == "image/png"
    assert media_type("x.js") is None
    assert media_type("x.txt") is None


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "README", "a.json"])
def test_what_is_in_a_text_or_a_table_is_never_a_tag(tmp_path: Path, name: str):
    (tmp_path / name).write_text(f"{HOSTILE},{HOSTILE}\t{HOSTILE}\n{HOSTILE}\n")
    said = cells.shown(tmp_path, name)
    assert not {"script", "img"} & set(Tags(said).found)
    assert "&lt;script&gt;alert(1)" in said


def test_the_name_of_a_metric_is_never_a_tag(tmp_path: Path):
    (tmp_path / "m.csv").write_text(f"step,{HOSTILE}\n1,2\n2,3\n")
    found = Tags(cells.shown(tmp_path, "m.csv")).found
    assert "svg" in found and "table" in found
    assert not {"script", "img"} & set(found)


def test_a_long_text_is_cut_and_says_so(tmp_path: Path):
    (tmp_path / "a.log").write_bytes(b"x" * 100_000)
    assert cells.shown(tmp_path, "a.log").endswith("<p>the first 65,536 of 100,000 bytes</p>")


def test_a_long_table_is_cut_and_says_so(tmp_path: Path):
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 1000)
    said = cells.shown(tmp_path, "a.csv")
    assert said.count("<tr>") == 100
    assert said.endswith("<p>the first 100 rows</p>")


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.jsonl", "x.tfevents.1"])
def test_an_empty_file_is_no_trouble(tmp_path: Path, name: str):
    (tmp_path / name).touch()
    cells.shown(tmp_path, name)


def test_any_other_file_says_what_it_is(tmp_path: Path):
    (tmp_path / "model.pt").write_bytes(b"x" * 2000)
    assert cells.shown(tmp_path, "model.pt") == "<p>pt file of 2,000 bytes</p>"


def test_html_in_an_export_is_in_a_frame_that_can_do_nothing(tmp_path: Path):
    (tmp_path / "a.html").write_text(f'"></iframe>{HOSTILE}')
    said = cells.embedded(tmp_path, "a.html", 1000)
    assert Tags(said).found == ["iframe"]
    assert re.match(r'<iframe sandbox referrerpolicy="no-referrer" srcdoc="&lt;meta http-equiv=', said)
    assert "default-src &amp;#x27;none&amp;#x27;" in said


def test_a_picture_in_an_export_has_all_that_it_takes(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"picture")
    assert cells.embedded(tmp_path, "a.png", 100) == '<img alt="a.png" src="data:image/png;base64,cGljdHVyZQ==">'


def test_what_is_too_large_for_an_export_is_left_out_and_told(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"x" * 11)
    assert "left out: 11 bytes" in cells.embedded(tmp_path, "a.png", 10)


def test_a_link_is_no_cell(tmp_path: Path):
    (tmp_path / "a.txt").symlink_to("/etc/passwd")
    with pytest.raises(NotFound):
        cells.shown(tmp_path, "a.txt")
