"""Storage for claims: a folder of this machine each, which pods on both nodes may mount. Runs beside the cluster.

``python -m tests.cluster.rig.volumes`` watches for claims of the default class, ``folders``, makes a volume for each,
and removes both when the claim is gone. Like NFS it is there on every node, and it takes on a pod's ``fsGroup``.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from .console import run
from .control_plane import kubectl
from .places import ADMIN, NODES, PROJECT, RUN
from .processes import Process

CLASS = "folders"
FOLDERS = RUN / "volumes"
STORAGE_CLASS = f"""
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {CLASS}, annotations: {{storageclass.kubernetes.io/is-default-class: "true"}}}}
provisioner: mlmp.test/folders
reclaimPolicy: Delete
"""
process = Process("volumes")


def up() -> None:
    """Makes the default StorageClass and starts what serves it."""
    run(*kubectl(), "apply", "-f", "-", text_in=STORAGE_CLASS)
    process.define("env", f"PYTHONPATH={PROJECT}", sys.executable, "-m", "tests.cluster.rig.volumes")
    process.start()


def serve(core: client.CoreV1Api) -> None:
    """One round: volumes for claims that wait, no volume for claims that are gone."""
    volumes = core.list_persistent_volume().items
    there = {volume.metadata.name for volume in volumes}
    for claim in core.list_persistent_volume_claim_for_all_namespaces().items:
        name = f"pvc-{claim.metadata.uid}"
        if claim.spec.storage_class_name == CLASS and claim.status.phase == "Pending" and name not in there:
            _make(core, claim, name)
    for volume in volumes:
        if volume.spec.storage_class_name == CLASS and volume.status.phase == "Released":
            core.delete_persistent_volume(volume.metadata.name)
            shutil.rmtree(FOLDERS / volume.metadata.name, ignore_errors=True)


def _make(core: client.CoreV1Api, claim: client.V1PersistentVolumeClaim, name: str) -> None:
    folder = FOLDERS / name
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    host = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name for node in NODES]}
    core.create_persistent_volume(
        {
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": "mlmp.test/folders"}},
            "spec": {
                "storageClassName": CLASS,
                "capacity": {"storage": claim.spec.resources.requests["storage"]},
                "accessModes": claim.spec.access_modes,
                "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": {
                    "namespace": claim.metadata.namespace,
                    "name": claim.metadata.name,
                    "uid": claim.metadata.uid,
                },
                # A local volume, for one on hostPath would not get the pod's fsGroup.
                "local": {"path": str(folder)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
            },
        }
    )


def main() -> None:
    """Until killed; an API server that is away is waited for."""
    os.umask(0)
    Path(FOLDERS).mkdir(parents=True, exist_ok=True)
    core = client.CoreV1Api(config.new_client_from_config(str(ADMIN)))
    while True:
        try:
            serve(core)
        except (ApiException, HTTPError) as error:
            print(f"later: {error}", file=sys.stderr, flush=True)
        time.sleep(0.5)


if __name__ == "__main__":
    main()
