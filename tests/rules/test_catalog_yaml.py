"""The catalog as YAML: all its mistakes at once, each with its place and what is valid; and the way back to text."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlmp_spawner.errors import ConfigurationError
from mlmp_spawner.rules.catalog import Accelerator, Catalog, CatalogFile, Image, LimitRules, Limits, Node, Profile
from mlmp_spawner.rules.catalog_yaml import catalog_from_texts, catalog_texts, json_schema, load_catalog
from mlmp_spawner.units import DAY, HOUR, MINUTE

GPU = "nvidia.com/gpu"
SCHEMA = jsonschema.Draft202012Validator(json_schema())
SHIPPED = Path(__file__).parents[2] / "profiles"
HERE = Node(
    name="here",
    cpus=8,
    memory=64 << 30,
    accelerators=(Accelerator(resource=GPU, count=4), Accelerator(resource="mlmp.dev/slot", count=8)),
)
RIGHT = """
nodes:
  gpu-1:
    accelerators: [{resource: nvidia.com/gpu, model: A100, count: 4}]
    cpus: 16
    memory: 64GiB
images:
  pytorch: {reference: "registry/pytorch:1"}
  scipy: {reference: "registry/scipy:1"}
profiles:
  gpu: {resource: nvidia.com/gpu, max_duration: 2d}
limits:
  everybody: {units_at_once: 2}
"""


def problems(*texts: str, discovered: tuple[Node, ...] = ()) -> list[str]:
    """What is wrong with files a.yaml, b.yaml … of these texts."""
    with pytest.raises(ConfigurationError) as caught:
        catalog_from_texts({f"{chr(97 + n)}.yaml": text for n, text in enumerate(texts)}, discovered=discovered)
    return caught.value.problems


def outcome(text: str) -> Catalog | list[str]:
    """The catalog that a file a.yaml of this text makes, or what is wrong with it."""
    try:
        return catalog_from_texts({"a.yaml": text}, discovered=[HERE])
    except ConfigurationError as error:
        return error.problems


def with_profile(profile: str) -> str:
    """The catalog above with ``profile`` (flow style) on line 11."""
    return RIGHT.replace("gpu: {resource: nvidia.com/gpu, max_duration: 2d}", f"gpu: {profile}")


def test_a_right_catalog_is_read_and_what_it_leaves_out_filled_in() -> None:
    catalog = catalog_from_texts({"a.yaml": RIGHT})
    profile = catalog.profiles["gpu"]
    assert (profile.title, profile.max_units, profile.images) == ("gpu", 4, ("pytorch", "scipy"))
    assert (profile.default_duration, profile.max_duration) == (4 * HOUR, 2 * DAY)
    assert catalog.nodes["gpu-1"].memory == 64 << 30
    assert catalog.limits_for("ann", []).units_at_once == 2


def test_sections_may_stand_in_files_of_their_own() -> None:
    files = {f"{key}.yaml": yaml.safe_dump({key: part}) for key, part in yaml.safe_load(RIGHT).items()}
    assert catalog_from_texts(files) == catalog_from_texts({"a.yaml": RIGHT})


def test_without_a_section_nodes_the_discovered_ones_count() -> None:
    text = "profiles: {gpu: {resource: nvidia.com/gpu}}"
    assert list(catalog_from_texts({"a.yaml": text}, discovered=[HERE]).nodes) == ["here"]
    assert list(catalog_from_texts({"a.yaml": RIGHT}, discovered=[HERE]).nodes) == ["gpu-1"]
    assert list(catalog_from_texts({"a.yaml": RIGHT}, discovered=[HERE], always=True).nodes) == ["here"]


def test_all_mistakes_of_all_files_are_told_at_once_in_their_order() -> None:
    assert problems(
        "nodes:\n"
        "  gpu-1:\n"
        "    accelerators:\n"
        "      - {resource: nvidia.com/gpu, cuont: 4}\n"
        "    memory: 64\n"
        "  gpu-2: {accelerators: []}\n",
        "profiles:\n"
        "  gpu: {resource: nvidia.com/gpu, min_duration: 4 hours, units: 0}\n"
        "  cpu:\n"
        "    images: [pytorch]\n"
        "imags: {}\n",
    ) == [
        "a.yaml:4: nodes.gpu-1.accelerators.0: 'count' is missing",
        "a.yaml:4: nodes.gpu-1.accelerators.0.cuont: unknown key; did you mean 'count'? "
        "valid: count, memory_gib, model, resource, simulated, unit_ids",
        "a.yaml:5: nodes.gpu-1.memory: 64 is not a size; write 512MiB, 64GiB or 1.5TiB",
        "a.yaml:6: nodes.gpu-2.accelerators: must be a list with something in it, not []",
        "b.yaml:2: profiles.gpu.units: must be greater than 0, not 0",
        "b.yaml:2: profiles.gpu.min_duration: '4 hours' is not a duration; write 90m, 4h, 2d, 30s or 1h30m",
        "b.yaml:3: profiles.cpu: 'resource' is missing",
        "b.yaml:5: unknown section 'imags'; did you mean 'images'? valid: images, limits, nodes, profiles",
    ]


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        ("{resource: nvidia.com/gpus}", "resource: no node has 'nvidia.com/gpus'; did you mean 'nvidia.com/gpu'? "
         "valid: nvidia.com/gpu"),
        ("{resource: nvidia.com/gpu, model: A10}", "model: no node has nvidia.com/gpu of model 'A10'; did you mean "
         "'A100'? valid: A100"),
        ("{resource: nvidia.com/gpu, units: 5}", "units: 5 fits no node; the largest has 4 of nvidia.com/gpu"),
        ("{resource: nvidia.com/gpu, max_units: 8}", "max_units: 8 fits no node; the largest has 4 of nvidia.com/gpu"),
        ("{resource: nvidia.com/gpu, units: 2, max_units: 1}", "max_units: 1 is less than units (2)"),
        ("{resource: nvidia.com/gpu, cpus: 32}", "cpus: 32 fits no node; the largest that has its units has 16"),
        ("{resource: nvidia.com/gpu, memory: 1TiB}", "memory: 1 TiB fits no node; the largest that has its units has "
         "64 GiB"),
        ("{resource: nvidia.com/gpu, images: [pytorhc]}", "images.0: there is no image 'pytorhc'; did you mean "
         "'pytorch'? valid: pytorch, scipy"),
        ("{resource: nvidia.com/gpu, min_duration: 2h, max_duration: 1h}", "min_duration: 2 h is longer than "
         "max_duration (1 h)"),
        ("{resource: nvidia.com/gpu, max_duration: 1h, default_duration: 2h}", "default_duration: 2 h is longer than "
         "max_duration (1 h)"),
        ("{resource: nvidia.com/gpu, min_duration: 0m}", "min_duration: must be longer than nothing"),
        ("{resource: nvidia.com/gpu, model: 4090}", "model: must be text, not 4090; put it in quotes: '4090'"),
        ("{resource: nvidia.com/gpu, ssh: maybe}", "ssh: must be true or false, not 'maybe'"),
        ("{resource: nvidia.com/gpu, groups: staff}", "groups: must be a list, not 'staff'"),
        ("{resource: nvidia.com/gpu, max_duration: 4}", "max_duration: 4 is not a duration; write 90m, 4h, 2d, 30s or "
         "1h30m"),
        ('{resource: nvidia.com/gpu, title: "a\\nb"}', "title: must be one line, without control characters"),
        ("{resource: ../x}", "resource: '../x' is not a name: letters, digits and '._-' (in a resource one '/' too), "
         "the first a letter or digit"),
    ],
)  # fmt: skip
def test_a_profile_that_can_not_work_is_told_with_its_line_and_what_is_valid(profile: str, problem: str) -> None:
    assert problems(with_profile(profile)) == [f"a.yaml:11: profiles.gpu.{problem}"]


def test_a_profile_that_fits_no_node_as_a_whole_is_told() -> None:
    text = RIGHT.replace("  gpu-1:", "  gpu-2:\n    accelerators: [{resource: nvidia.com/gpu, count: 4}]\n"
                         "    cpus: 4\n    memory: 1TiB\n  gpu-1:")  # fmt: skip
    text = text.replace("max_duration: 2d", "cpus: 16, memory: 1TiB")
    assert problems(text) == [
        "a.yaml:15: profiles.gpu: its units, cpus and memory together fit no node (gpu-2, gpu-1)"
    ]


def test_the_broken_entry_is_told_and_not_those_that_name_it() -> None:
    text = RIGHT.replace('{reference: "registry/pytorch:1"}', "{}").replace("count: 4", "count: four")
    assert problems(text.replace("max_duration: 2d", "images: [pytorch], units: 9")) == [
        "a.yaml:4: nodes.gpu-1.accelerators.0.count: must be a whole number, not 'four'",
        "a.yaml:8: images.pytorch: 'reference' is missing",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("profiles:\n  gpu: {resource: a}\n  gpu: {resource: b}\n", "a.yaml:3: key 'gpu' is there twice, first on "
         "line 2"),
        ("profiles: [", "a.yaml:1: not YAML: while parsing a flow node expected the node content, but found "
         "'<stream end>'"),
        ("profiles: {gpu: &a {images: [*a]}}", "a.yaml:1: holds itself"),
        ("limits: {everybody: {units_at_once: 2026-13-45}}", "a.yaml:1: can't read '2026-13-45': month must be in "
         "1..12; put text in quotes"),
        ("? [a, b]\n: 1\n", "a.yaml:1: a key must be a name"),
        ("- a\n", "a.yaml:1: the file must hold sections; valid: nodes, images, profiles, limits"),
        ("profiles: 3", "a.yaml:1: profiles: must be names with their settings"),
        ("limits: {groups: {students: }}", "a.yaml:1: limits.groups.students: must be keys with their values, not "
         "nothing"),
        ("limits: {everybody: {min_duration: 2h, max_duration: 1h}}", "a.yaml:1: limits.everybody.min_duration: is "
         "longer than max_duration"),
    ],
)  # fmt: skip
def test_what_is_no_catalog_at_all_is_told_by_its_line(text: str, problem: str) -> None:
    assert problem in problems(text, discovered=(HERE,))


def test_a_section_that_stands_twice_is_told_with_both_places() -> None:
    assert "b.yaml:1: section 'images' is also at a.yaml:7" in problems(RIGHT, "images: {}")


def test_keys_are_names_as_they_are_written() -> None:
    text = with_profile(
        "{resource: nvidia.com/gpu}\n  4090: {resource: nvidia.com/gpu}\n  on: {resource: nvidia.com/gpu}"
    )
    assert list(catalog_from_texts({"a.yaml": text}).profiles) == ["gpu", "4090", "on"]


def test_anchors_and_merge_keys_save_writing_twice() -> None:
    text = with_profile("&gpu {resource: nvidia.com/gpu, max_duration: 1h}\n  two: {<<: *gpu, units: 2}")
    catalog = catalog_from_texts({"a.yaml": text})
    assert (catalog.profiles["two"].units, catalog.profiles["two"].max_duration) == (2, HOUR)


def test_aliases_of_aliases_do_not_grow_without_end() -> None:
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert any("too large" in problem for problem in problems("\n".join(lines)))


def test_no_directory_no_file_and_no_text_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such directory"):
        load_catalog(tmp_path / "none")
    with pytest.raises(ConfigurationError, match=r"no \*.yaml file"):
        load_catalog(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"a\.yaml: 'utf-8' codec"):
        load_catalog(tmp_path)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_catalog_or_a_list_of_problems(text: str) -> None:
    assert isinstance(outcome(text), (Catalog, list))


YAMLISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.just("4h"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["gpu", "resource", "images", "units", "x", "everybody", "groups"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["nodes", "images", "profiles", "limits"]), YAMLISH))
@settings(max_examples=200, deadline=None)
def test_any_yaml_is_a_catalog_or_a_list_of_problems_with_their_lines(data: object) -> None:
    found = outcome(yaml.safe_dump(data))
    assert isinstance(found, Catalog) or all(one.startswith("a.yaml:") or "no profiles" in one for one in found)


durations = st.integers(1, 30 * DAY)
letters = st.characters(exclude_categories=["C", "Zl", "Zp"])
words = st.text(letters, max_size=5)
amounts = st.none() | st.floats(0.1, 64, allow_nan=False)


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    counts = draw(st.lists(st.integers(1, 8), min_size=1, max_size=3))
    nodes = {
        f"n{n}": Node(name=f"n{n}", memory=draw(st.none() | st.integers(1, 1 << 42)), cpus=draw(amounts),
                      labels=draw(st.dictionaries(words, words, max_size=2)),
                      accelerators=(Accelerator(resource=GPU, count=count, simulated=draw(st.booleans())),))
        for n, count in enumerate(counts)
    }  # fmt: skip
    images = {"one": Image(name="one", reference=draw(st.text("abc:/#'\" ", min_size=1, max_size=9)))}
    profiles = {}
    for name in draw(st.lists(st.sampled_from(["a", "b", "1", "on"]), min_size=1, unique=True)):
        shortest, default, longest = sorted(draw(st.tuples(durations, durations, durations)))
        profiles[name] = Profile(
            name=name, title=draw(st.text(letters, min_size=1, max_size=9)), resource=GPU, images=("one",),
            max_units=draw(st.integers(1, max(counts))), ssh=draw(st.booleans()), counted=draw(st.booleans()),
            groups=tuple(draw(st.lists(st.text(letters, min_size=1, max_size=5), max_size=2))),
            min_duration=shortest, default_duration=default, max_duration=longest,
        )  # fmt: skip
    some = st.fixed_dictionaries(
        {}, optional={"units_at_once": st.none() | st.integers(0, 9), "ahead": st.none() | durations,
                      "hours_per_week": st.none() | st.floats(0, 500), "job_logs": st.none() | st.integers(1, 9)},
    )  # fmt: skip
    limits = LimitRules(
        everybody=Limits(**draw(some)),
        groups={name: Limits(**draw(some)) for name in draw(st.sets(st.text(letters, max_size=3)))},
    )
    return Catalog(nodes=nodes, images=images, profiles=profiles, limits=limits)


@given(catalogs())
@settings(max_examples=100, deadline=None)
def test_a_catalog_that_is_written_is_read_back_the_same(catalog: Catalog) -> None:
    texts = catalog_texts(catalog)
    again = catalog_from_texts(texts)
    assert again == catalog
    assert list(again.profiles) == list(catalog.profiles)
    for user, groups in (("x", ()), ("x", tuple(catalog.limits.groups))):
        assert again.limits_for(user, groups) == catalog.limits_for(user, groups)
    for text in texts.values():
        SCHEMA.validate(yaml.safe_load(text))


class TestWhatIsShipped:
    def test_the_catalog_of_one_machine_is_right(self) -> None:
        catalog = load_catalog(SHIPPED, discovered=[HERE])
        assert list(catalog.profiles) == ["gpu", "cpu"]
        assert (catalog.profiles["gpu"].max_units, catalog.profiles["cpu"].max_units) == (4, 8)

    def test_the_example_of_a_cluster_is_right(self) -> None:
        catalog = load_catalog(SHIPPED / "examples/cluster")
        assert all(catalog.nodes_for(profile) for profile in catalog.profiles.values())

    def test_the_schema_is_that_of_the_models(self) -> None:
        written = json.loads((SHIPPED / "schema.json").read_text(encoding="utf-8"))
        assert written == json_schema(), "stale; run: mlmp catalog schema --output profiles/schema.json"

    @pytest.mark.parametrize("file", sorted(SHIPPED.rglob("*.yaml")), ids=lambda file: str(file.relative_to(SHIPPED)))
    def test_every_file_holds_to_the_schema_that_it_names(self, file: Path) -> None:
        text = file.read_text(encoding="utf-8")
        first = text.splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema=")
        assert (file.parent / first.partition("=")[2]).resolve() == (SHIPPED / "schema.json").resolve()
        SCHEMA.validate(yaml.safe_load(text))


def test_the_schema_explains_every_key_and_refuses_strange_ones() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for model in (schema, *schema["$defs"].values()):
        assert model["additionalProperties"] is False
        assert all("description" in key for key in model["properties"].values())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"limits": {"everybody": {"ahead": 4}}}, schema)
    assert set(schema["properties"]) == set(CatalogFile.model_fields)


def test_minutes_are_written_as_such() -> None:
    rules = LimitRules(everybody=Limits(min_duration=90 * MINUTE, extension=1))
    assert (
        "min_duration: 1h30m\n    extension: 0.001s" in catalog_texts(Catalog(nodes={}, limits=rules))["limits.yaml"]
    )
