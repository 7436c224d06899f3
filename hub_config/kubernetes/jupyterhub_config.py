"""Hub and service on Kubernetes. The Helm chart writes what `configure` reads; any setting can be given in its values.

hub:
  config:
    MLMP: {stop_lead: 60}
  extraConfig:
    environment: c.KubeSpawner.environment = {"HF_HOME": "/data/models"}
"""

from mlmp_spawner.logins.beside import beside
from mlmp_spawner.spawners.cluster_hub import configure

configure(get_config())  # noqa: F821 -- JupyterHub's own way
beside(get_config())  # noqa: F821
