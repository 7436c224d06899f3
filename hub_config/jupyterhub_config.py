"""The hub of one machine, as `mlmp up` runs it. What is yours goes into DATA/jupyterhub_config.py, read last:

c.MLMP.stop_lead = 60
c.MLMPLocalSpawner.environment = {"HF_HOME": "/data/models"}
"""

from pathlib import Path

from mlmp_spawner.logins.beside import beside
from mlmp_spawner.spawners.hub import configure, let_in

up = configure(get_config())  # noqa: F821 -- JupyterHub's own way
load_subconfig(str(Path(up.data) / "jupyterhub_config.py"))  # noqa: F821
let_in(get_config(), up)  # noqa: F821
beside(get_config())  # noqa: F821
