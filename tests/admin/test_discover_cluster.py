"""``mlmp catalog discover --kubernetes`` where no cluster answers; where one does: tests/cluster, and the rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlmp_spawner.client.cli import cli
from tests.admin.test_check_cluster import kubeconfig


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def discover(monkeypatch: pytest.MonkeyPatch, config: Path) -> Result:
    monkeypatch.setenv("KUBECONFIG", str(config))
    return CliRunner().invoke(cli, ["catalog", "discover", "--kubernetes"])


@pytest.mark.parametrize("content", [None, "{", "a: [1]", "clusters: 7"])
def test_no_configuration_or_a_broken_one_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
):
    config = tmp_path / "config"
    if content is not None:
        config.write_text(content)
    result = discover(monkeypatch, config)
    assert result.exit_code == 2 and result.stdout == ""
    assert "no Kubernetes cluster is configured" in result.stderr and "set KUBECONFIG" in result.stderr


def test_a_cluster_that_does_not_answer_is_told_with_status_3(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    result = discover(monkeypatch, kubeconfig(tmp_path))
    assert result.exit_code == 3 and result.stdout == ""
    assert "does not answer" in result.stderr


def test_further_resources_are_for_clusters():
    result = CliRunner().invoke(cli, ["catalog", "discover", "--resource", "rdma/hca"])
    assert result.exit_code == 2 and "--kubernetes" in result.stderr
