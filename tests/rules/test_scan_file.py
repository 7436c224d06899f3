"""A scan in a file: a manifest with a part ``scan``, for people, programs and editors."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlmp_spawner.errors import Invalid
from mlmp_spawner.rules import job_manifest
from mlmp_spawner.rules.scan_file import part_of, schema

FILE = """\
profile: gpu
script: train.py
scan:
  parameters: {lr: {from: 1e-5, to: 0.1, steps: 5, scale: log}, bs: [32, 64]}
  out: runs/{lr}-{bs}
"""


@pytest.mark.parametrize(
    ("said", "kind"), [("{x: [1]}", "grid"), ("[{x: 1}]", "list"), ("{x: [1]}, samples: 3", "random")]
)
def test_what_its_parameters_are_need_not_be_said(said: str, kind: str) -> None:
    found = part_of(f"scan: {{parameters: {said}}}")
    assert found and found.kind == kind


def test_the_rest_of_it_is_the_manifest_of_each_job() -> None:
    assert job_manifest.parse(FILE, beside="scan").script == "train.py"
    with pytest.raises(Invalid, match="line 3: scan: unknown key"):
        job_manifest.parse(FILE)
    with pytest.raises(Invalid, match="line 2: script"):
        job_manifest.parse(FILE.replace("train.py", "../train.py"), beside="scan")
    assert part_of("profile: gpu") is None


def test_a_number_without_a_point_is_one() -> None:
    found = part_of("scan: {parameters: {lr: [1e-3, 2E-4], x: {from: 1e-5, to: 1e-1, steps: 2}, n: [1e, e5]}}")
    assert found and found.parameters == {
        "lr": [0.001, 0.0002], "x": {"from": 1e-05, "to": 0.1, "steps": 2}, "n": ["1e", "e5"]
    }  # fmt: skip


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5),
                    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3),
                    max_leaves=6))  # fmt: skip
def test_whatever_is_sent_as_the_part_is_one_or_refused(said: object) -> None:
    try:
        part_of({"scan": {"parameters": said}})
        part_of({"scan": said})
    except Invalid as error:
        assert error.detail


def test_the_schema_that_is_shipped_is_that_of_the_model_and_takes_such_files() -> None:
    written = json.loads((Path(__file__).parents[2] / "profiles/scan.schema.json").read_text(encoding="utf-8"))
    assert written == schema(), "stale; run: mlmp catalog schema --scans --output profiles/scan.schema.json"
    jsonschema.Draft202012Validator.check_schema(written)
    check = jsonschema.Draft202012Validator(written)
    assert check.is_valid(yaml.safe_load(FILE))
    assert not check.is_valid(yaml.safe_load(FILE.partition("scan:")[0]))
    assert not check.is_valid(yaml.safe_load(FILE + "  at_onces: 2\n"))
