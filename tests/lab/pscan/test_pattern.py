"""Templates and expressions: what they tell from a path, what is none, and that none of them takes long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.errors import Invalid
from mlmp_spawner.lab.pscan.pattern import compile_pattern, literal

NAMES = st.text("abcXYZ019.=+-_ ()[]\\^$|?é", min_size=1, max_size=12)


def test_a_template_tells_its_parameters_from_a_path():
    pattern = compile_pattern("lr={lr}/bs={bs}/seed_{seed}.png")
    assert pattern.names == ("lr", "bs", "seed")
    assert pattern.match("lr=1e-3/bs=32/seed_7.png") == ("1e-3", "32", "7")


@pytest.mark.parametrize(
    "path", ["lr=1/bs=2/seed_3.jpg", "lr=1/seed_3.png", "x/lr=1/bs=2/seed_3.png", "lr=/bs=2/seed_3.png", ""]
)
def test_a_path_of_another_form_has_no_parameters(path: str):
    assert compile_pattern("lr={lr}/bs={bs}/seed_{seed}.png").match(path) is None


def test_a_star_is_anything_within_its_folder():
    pattern = compile_pattern("*/{lr}-*.png")
    assert pattern.match("run9/0.1-.png") == ("0.1",)
    assert pattern.match("run9/x/0.1-1.png") is None


def test_what_means_something_in_an_expression_means_itself_in_a_template():
    assert compile_pattern("a.b(c)[{n}]+").match("a.b(c)[1]+") == ("1",)
    assert compile_pattern("a.b(c)[{n}]+").match("axb(c)[1]+") is None


def test_an_expression_with_named_groups_is_for_whole_paths():
    pattern = compile_pattern(r"(?:old/)?lr(?P<lr>[0-9.]+)(?:_(?P<note>\w+))?\.png")
    assert pattern.names == ("lr", "note")
    assert pattern.match("old/lr0.1_good.png") == ("0.1", "good")
    assert pattern.match("lr0.1.png") == ("0.1", "")
    assert pattern.match("lr0.1.png.bak") is None


def test_a_name_that_is_no_text_is_of_another_form():
    name = b"lr=\xff.png".decode("utf-8", "surrogateescape")
    assert compile_pattern("lr={lr}.png").match(name) is None
    assert compile_pattern(r"lr=(?P<lr>.*)\.png").match(name) is None
    assert compile_pattern(r"(?P<all>(?s:.*))").match(name) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is missing"),
        ("a/b.png", "names no parameter"),
        ("{lr}/{lr}", "twice"),
        ("{l r}", "letters, digits and _"),
        ("{lr", "letters, digits and _"),
        ("{}", "letters, digits and _"),
        ("x" * 1001 + "{lr}", "1005 characters"),
        ("/".join(f"{{p{n}}}" for n in range(13)), "names 13 parameters"),
        (r"(?P<lr>a)(?=b)", "none of RE2"),
        (r"(?P<lr>(a)\2", "none of RE2"),
        (r"(?P<lr>a{900}){900}", "none of RE2"),
        ("(?P<lr>\ud800)", "character"),
        ("{lr}\ud800", "character"),
    ],
)
def test_what_is_no_pattern_is_refused_with_the_reason(text: str, why: str):
    with pytest.raises(Invalid, match="pattern: ") as refused:
        compile_pattern(text)
    assert why in refused.value.detail


@pytest.mark.parametrize("hostile", [r"(?P<a>(a+)+)$", r"(?P<a>(a|a)*)b", r"(?P<a>(a|aa)+)\w*b", r"(?P<a>(.*)*.*)=x"])
def test_no_expression_takes_long_where_backtracking_would_take_for_ever(hostile: str):
    assert compile_pattern(hostile).match("a" * 4000 + "!") is None


def test_no_template_takes_long_either():
    assert compile_pattern("{a}{b}{c}{d}*{e}*{f}*x").match("a" * 4000) is None


@given(NAMES)
def test_literal_text_matches_itself_alone(text: str):
    assert compile_pattern(f"(?P<n>x){literal(text)}").match("x" + text) == ("x",)
    assert compile_pattern(f"(?P<n>x){literal(text)}").match(f"x{text}a") is None


@given(st.lists(st.text("abc019.=-", min_size=1, max_size=8), min_size=2, max_size=5))
def test_a_template_gives_back_what_was_put_into_it(values: list[str]):
    template = "/".join(f"p{n}_{{p{n}}}" for n in range(len(values)))
    path = "/".join(f"p{n}_{value}" for n, value in enumerate(values))
    assert compile_pattern(template).match(path) == tuple(values)
