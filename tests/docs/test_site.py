"""The site is built without a warning, has every page, and fetches nothing from anywhere."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    mkdocs = Path(sys.executable).with_name("mkdocs")
    command = [mkdocs, "build", "--strict", "--quiet", "--site-dir", target]
    ran = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return target


def test_every_page_is_a_page_of_the_site(site: Path) -> None:
    written = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in ROOT.glob("docs/**/*.md")}
    assert written <= {path.relative_to(site) for path in site.glob("**/*.html")}


def test_every_page_can_be_reached_from_the_contents() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- (\S+\.md)$", text, re.MULTILINE)
    written = [str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")]
    assert sorted(listed) == sorted(written), "list it under `nav` in mkdocs.yml"
    assert yaml.safe_load(text)["nav"]


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loading = re.compile(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(?:https?:)?//[^\" >]+|url\(['\"]?https?:")
    found = {
        str(page.relative_to(site)): hits
        for page in (*site.glob("**/*.html"), *site.glob("assets/stylesheets/*.css"))
        if (hits := [hit for hit in loading.findall(page.read_text(encoding="utf-8")) if "canonical" not in hit])
    }
    assert found == {}


def test_examples_of_configuration_are_shown_whole(site: Path) -> None:
    for example, page in {"github": "github-or-oidc", "oidc": "github-or-oidc", "ldap": "ldap"}.items():
        text = (site / "how-to" / f"login-with-{page}.html").read_text(encoding="utf-8")
        plain = html.unescape(re.sub(r"<[^>]+>", "", text))
        last = (ROOT / f"hub_config/examples/{example}.py").read_text(encoding="utf-8").splitlines()[-1]
        assert last in plain
