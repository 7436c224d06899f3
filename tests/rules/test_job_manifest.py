"""The manifest of a job: all its mistakes at once, each with its line and what is valid; nothing of it is trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmp_spawner.errors import Invalid
from mlmp_spawner.rules.job_manifest import LARGEST, Manifest, for_job, parse, schema
from mlmp_spawner.units import HOUR, MINUTE

SCHEMA = jsonschema.Draft202012Validator(schema())
RIGHT = {"profile": "gpu", "script": "train.py"}


def mistakes(source: str | dict[str, Any]) -> list[tuple[str, str]]:
    """Field and message of each mistake in a manifest."""
    with pytest.raises(Invalid) as caught:
        parse(source)
    return [(error["field"], error["message"]) for error in caught.value.data["errors"]]


def message(**said: Any) -> str:
    """What is said of the one mistake in a manifest that is right otherwise."""
    ((_, found),) = mistakes(RIGHT | said)
    return found


def test_a_profile_and_a_script_are_enough() -> None:
    manifest = parse("profile: gpu\nscript: models/train.py\n")
    assert (manifest.name, manifest.workers, manifest.preemptible, manifest.retries) == ("train", 1, True, 0)
    assert (manifest.grace, manifest.length, manifest.units) == (MINUTE, None, None)
    assert (manifest.checkpoint, manifest.outputs) == ("mlmp-jobs/{id}/checkpoints", "mlmp-jobs/{id}")


def test_json_is_taken_as_text_too() -> None:
    assert parse(json.dumps(RIGHT)) == parse(RIGHT)


@pytest.mark.parametrize(
    ("runs", "name"),
    [
        ({"script": "a/my train.v2.py"}, "my-train.v2"),
        ({"notebook": "fit.ipynb"}, "fit"),
        ({"command": ["/usr/bin/nvidia-smi", "-L"]}, "nvidia-smi"),
        ({"command": "python -m fit > log"}, "python"),
        ({"command": "( cd x )"}, "job"),
        ({"script": "…/öä.py"}, "job"),
    ],
)
def test_a_job_without_a_name_has_that_of_what_it_runs(runs: dict[str, Any], name: str) -> None:
    assert parse({"profile": "gpu", **runs}).name == name


def test_a_command_as_text_is_for_the_shell() -> None:
    assert parse({"profile": "gpu", "command": "ls | wc"}).command == ("sh", "-c", "ls | wc")


def test_hours_are_the_length_of_an_attempt() -> None:
    assert parse(RIGHT | {"hours": 1.5}).length == 90 * MINUTE
    assert parse(RIGHT | {"hours": 2}).length == 2 * HOUR
    assert parse(RIGHT | {"hours": 1e-9}).length == 1000


def test_all_mistakes_are_told_at_once_with_their_lines() -> None:
    with pytest.raises(Invalid) as caught:
        parse(
            "profil: gpu\n"
            "script: ../train.py\n"
            "arguments: [1]\n"
            "hours: -1\n"
            "grace: 2h\n"
            "environment:\n"
            "  MLMP_URL: x\n"
            "  1x: y\n"
            "metrics:\n"
            "  - {pattern: loss, json_line: x}\n"
            "  - {tensorboard: runs, json_lines: metrics}\n"
        )
    assert [error["line"] for error in caught.value.data["errors"]] == [1, 1, 2, 3, 4, 5, 7, 8, 10, 10, 11]
    assert str(caught.value).startswith("The manifest: line 1: 'profile' is missing; line 1: profil: unknown key; ")
    assert "did you mean 'profile'?" in str(caught.value)
    assert "line 3: arguments.0: must be text, not 1; put it in quotes: '1'; line 4: hours: must be" in str(
        caught.value
    )
    assert "line 10: metrics.0.json_line: unknown key; did you mean 'json_lines'?" in str(caught.value)
    assert "line 11: metrics.1: exactly one of tensorboard, json_lines, pattern" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"script": None}, "exactly one of script, notebook, command"),
        ({"command": "ls"}, "not script and command"),
        ({"script": None, "command": []}, "must name a program"),
        ({"script": None, "command": "ls", "arguments": ["x"]}, "those of a command stand in its list"),
        ({"parameters": {"lr": 1}}, "are for a notebook"),
        ({"script": None, "notebook": "a.ipynb", "workers": 2}, "a notebook has one worker"),
        ({"script": None, "notebook": "a.ipynb", "parameters": {"a b": 1}}, "is no name of a variable"),
        ({"script": "/etc/passwd"}, "relative"),
        ({"script": "-c"}, "beginning with neither '-'"),
        ({"script": "a\nb"}, "control characters"),
        ({"directory": "a/../../b"}, "without '..'"),
        ({"outputs": "~ann/x"}, "beginning with neither '-' nor '~'"),
        ({"outputs": "{owner}/x"}, "'{owner}' can't be filled in; valid: {id}, {name}"),
        ({"outputs": "{x"}, "can't be filled in"),
        ({"checkpoint": "a/{id}/../../.."}, "without '..'"),
        ({"name": "../x"}, "is not a name"),
        ({"name": "a" * 101}, "is not a name"),
        ({"profile": "a b"}, "is not a name"),
        ({"environment": {"CUDA_VISIBLE_DEVICES": "0"}}, "is set by MLMP"),
        ({"secrets": ["A", "A"]}, "'A' is there twice"),
        ({"secrets": ["A"], "environment": {"A": "x"}}, "where it would be seen"),
        ({"secrets": [f"A{n}" for n in range(101)]}, "at most 100"),
        ({"workers": 0}, "must be greater than or equal to 1"),
        ({"workers": True}, "must be a whole number"),
        ({"hours": 0}, "must be greater than 0"),
        ({"hours": "1"}, "must be a number"),
        ({"retries": 11}, "must be less than or equal to 10"),
        ({"grace": "500s", "priority": "top"}, "'low', 'normal' or 'high'"),
        ({"grace": "0s"}, "from 1s to 10m"),
        ({"preemptible": 1}, "true or false"),
        ({"inside": "ABC"}, "is no booking"),
        ({"server": "../b"}, "is no booking"),
        ({"metrics": [{"pattern": "(?=x)"}]}, "no lookaround"),
        ({"metrics": [{"pattern": "x+"}]}, "names no metric"),
        ({"metrics": [{}]}, "exactly one of"),
        ({"metrics": [{"json_lines": "m"}] * 21}, "21 are too many; at most 20"),
        ({"group": "a\nb"}, "one line"),
        ({"environment": {"A": "x\0"}}, "no zero bytes"),
        ({"environment": {"A": "\ud800"}}, "surrogates"),
        ({"hours": float("nan")}, "NaN"),
        ({"pod": {"hostNetwork": True}}, "unknown key"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_what_is_valid(said: dict[str, Any], told: str) -> None:
    assert told in message(**said)


@pytest.mark.parametrize("text", ["", "- a", "5", "profile: [", "a: &a [*a]", "a: 2026-99-99", "[" * 1000])
def test_text_that_is_no_manifest_is_refused(text: str) -> None:
    assert mistakes(text)


def test_what_is_too_large_is_not_even_read() -> None:
    assert "at most 64 KiB" in mistakes(" " * (LARGEST + 1))[0][1]
    assert "at most 64 KiB" in message(environment={"A": "x" * LARGEST})


def test_a_few_lines_can_not_stand_for_many() -> None:
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert any("too large" in said for _, said in mistakes("\n".join(lines)))


@pytest.mark.parametrize("depth", [60, 900, 5000])
def test_what_is_nested_too_deeply_is_refused(depth: int) -> None:
    value: object = 1
    for _ in range(depth):
        value = [value]
    ((_, told),) = mistakes({"profile": "gpu", "notebook": "a.ipynb", "parameters": {"a": value}})
    assert "nested too deeply" in told


def test_messages_have_no_control_characters() -> None:
    with pytest.raises(Invalid) as caught:
        parse({**RIGHT, "profile": "a\x1b[2J\nb", "\x1bkey": 1})
    assert str(caught.value).isprintable()


def test_the_directories_of_a_job_are_filled_in_when_it_runs() -> None:
    said = {"name": "fit", "outputs": "~/runs/{name}/{id}", "metrics": [{"tensorboard": "~/runs/{id}"}, {
        "pattern": "a{1}(?P<id>.)"}]}  # fmt: skip
    normal = parse(RIGHT | said).normal()
    assert normal["outputs"] == "runs/{name}/{id}"
    filled = for_job(normal, "k3v9x0a2b1cd")
    assert filled["outputs"] == "runs/fit/k3v9x0a2b1cd"
    assert filled["checkpoint"] == "mlmp-jobs/k3v9x0a2b1cd/checkpoints"
    assert filled["metrics"] == [{"tensorboard": "~/runs/k3v9x0a2b1cd"}, {"pattern": "a{1}(?P<id>.)"}]
    assert filled.keys() == normal.keys() == Manifest.model_fields.keys()


words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True).filter(lambda name: not name.startswith("MLMP_"))
paths = st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5}){0,2}", fullmatch=True)
runs = st.one_of(
    st.fixed_dictionaries({"script": paths}, optional={"arguments": st.lists(words, max_size=3)}),
    st.fixed_dictionaries(
        {"notebook": paths},
        optional={
            "parameters": st.dictionaries(
                names, st.one_of(words, st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
            )
        },
    ),
    st.fixed_dictionaries({"command": st.one_of(st.text("abc /", min_size=1), st.lists(st.text("abc", min_size=1),
                                                                                     min_size=1))}),
)  # fmt: skip
rest = st.fixed_dictionaries(
    {"profile": st.just("gpu")},
    optional={
        "environment": st.dictionaries(names, words, max_size=3),
        "hours": st.floats(0.001, 1000),
        "grace": st.sampled_from(["1s", "90s", "10m", "1m1.5s"]),
        "outputs": st.sampled_from(["~/runs", "runs/{id}", "{name}/x"]),
        "metrics": st.lists(st.sampled_from([{"tensorboard": "runs"}, {"pattern": "(?P<x>.)"}]), max_size=3),
        "priority": st.sampled_from(["low", "high"]),
        "secrets": st.just(["MY_KEY"]),
    },
)


@settings(deadline=None)
@given(runs, rest)
def test_the_normal_form_and_the_yaml_of_a_manifest_are_that_manifest(a: dict[str, Any], b: dict[str, Any]) -> None:
    manifest = parse(a | b)
    normal = manifest.normal()
    assert json.loads(json.dumps(normal)) == normal
    assert parse(normal) == parse(manifest.as_yaml()) == manifest
    SCHEMA.validate(a | b)
    SCHEMA.validate(normal)
    SCHEMA.validate(yaml.safe_load(manifest.as_yaml()))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*Manifest.model_fields, "other"]), anything))
def test_whatever_is_sent_is_a_manifest_or_named_wrong(data: dict[str, Any]) -> None:
    try:
        parse(data)
    except Invalid as error:
        assert error.data["errors"]
        assert str(error).isprintable()


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_whatever_text_is_sent_is_a_manifest_or_named_wrong(text: str) -> None:
    try:
        parse(text)
    except Invalid as error:
        assert error.data["errors"]


def test_the_schema_that_is_shipped_is_that_of_the_model() -> None:
    written = json.loads((Path(__file__).parents[2] / "profiles/job.schema.json").read_text(encoding="utf-8"))
    assert written == schema(), "stale; run: mlmp catalog schema --jobs --output profiles/job.schema.json"


def test_the_schema_explains_every_key_and_refuses_strange_ones() -> None:
    found = schema()
    jsonschema.Draft202012Validator.check_schema(found)
    for model in (found, found["$defs"]["Metric"]):
        assert model["additionalProperties"] is False
        assert all("description" in key for key in model["properties"].values())
    for wrong in ({"profile": "gpu"}, RIGHT | {"command": "x"}, RIGHT | {"x": 1}, RIGHT | {"metrics": [{}]}):
        assert not SCHEMA.is_valid(wrong)
