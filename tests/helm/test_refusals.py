"""Wrong values are refused before anything reaches the cluster, by the name of the field and with what is valid."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.helm.chart import RefusedError, render

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("helm")]

WRONG = [
    ("hub: {resorces: {}}", "at '/hub': additional properties 'resorces' not allowed"),
    ("hubb: {}", "at '': additional properties 'hubb' not allowed"),
    ("users: {storage: {type: ceph}}", "at '/users/storage/type': value must be one of 'none', 'dynamic'"),
    ("users: {storage: {type: nfs}}", "users.storage.nfs: server and path say where the homes are"),
    ("users: {storage: {nfs: {server: 10.1.2.3, path: /x}}}", "users.storage.nfs: is for type nfs; the type is none"),
    ("users: {storage: {type: nfs, nfs: {server: a.org, path: /x}}}", "users.storage.nfs.server: a.org is a name"),
    ("users: {storage: {shared: {nfs: {server: a.org, path: /x}}}}", "users.storage.shared.nfs.server: a.org is a"),
    ("users: {storage: {shared: {nfs: {server: 10.1.2.3}}}}", "users.storage.shared.nfs: path says what"),
    ("users: {storage: {shared: {existingClaim: a, nfs: {server: 10.1.2.3, path: /x}}}}", "users.storage.shared: gi"),
    ("users: {storage: {shared: {existingClaim: a, path: ../b}}}", "at '/users/storage/shared/path'"),
    ("users: {storage: {scratch: {size: much}}}", "at '/users/storage/scratch/size'"),
    ("users: {storage: {folders: {systemClaim: a}}}", "users.storage.folders.systemClaim: is for type shared"),
    ("users: {namespace: u, storage: {type: shared, folders: {by: root}}}", "name a claim there for the same volume"),
    ("jobs: {enabled: true}", "jobs.enabled: a job's code and results are in its owner's home"),
    ("jobs: {enable: true}", "at '/jobs': additional properties 'enable' not allowed"),
    ("users: {gidFrom: a.b}", "users.gidFrom: needs users.uidFrom"),
    ("users: {guestUid: 65000}", "users.guestUid: needs users.uidFrom"),
    ("users: {uid: 0}", "at '/users/uid': minimum: got 0, want 1"),
    ("proxy: {service: {port: http}}", "at '/proxy/service/port': got string, want integer"),
    ("baseUrl: mlmp", "at '/baseUrl': 'mlmp' does not match pattern"),
    ("database: {url: sqlite:///mlmp.sqlite}", "at '/database/url': 'sqlite:///mlmp.sqlite' does not match pattern"),
    ("networkPolicies: {users: {exceptions: [10.0.0.0]}}", "at '/networkPolicies/users/exceptions/0'"),
    (
        "catalog: {profiles: {a: {resource: nvidia.com/gpu, titel: A}}}",
        "at '/catalog/profiles/a': additional properties 'titel' not allowed",
    ),
    ("catalog: {nodes: {gpu-1: {accelerators: [{resource: nvidia.com/gpu}]}}}",
     "at '/catalog/nodes/gpu-1/accelerators/0': missing property 'count'"),
    ("catalog: {limits: {everybody: {ahead: 14 days}}}", "at '/catalog/limits/everybody/ahead'"),
    ("catalog: {profiles: {a: {resource: x, images: [b]}}}", "catalog.profiles.a.images: there is no image b"),
    ("catalog: {profiles: {a: {resource: x}}, order: [b]}", "catalog.order: there is no profile b; there are: a"),
    ("catalog: {existingConfigMap: x, limits: {everybody: {units_at_once: 1}}}", "catalog: give existingConfigMap or"),
    ("ingress: {enabled: true, hosts: [a.example.org]}", "login: everybody who knows the two passwords"),
    ("proxy: {service: {type: NodePort}}", "login: everybody who knows the two passwords"),
    ("{ingress: {enabled: true}, login: {exposeTrial: true}}", "ingress.hosts: name at least one host"),
    ("users: {createNamespace: true}", "users.createNamespace: users.namespace says which"),
    ("users: {createNamespace: true, namespace: mlmp}", "mlmp is the release's own namespace"),
    (
        "{database: {url: 'postgresql+psycopg://u:p@h/n'}, secrets: {existingSecret: ours}}",
        "database.url: the Secret ours, of secrets.existingSecret, says which database",
    ),
    (
        "users: {storage: {type: shared, existingClaim: homes, shared: {existingClaim: homes}}}",
        "users.storage.shared.path: homes is the claim of all homes",
    ),
    (
        "users: {storage: {type: nfs, nfs: {server: 10.1.2.3, path: /x}, shared: {existingClaim: mlmp-homes}}}",
        "users.storage.shared.path: mlmp-homes is the claim of all homes",
    ),
    *(
        (
            f"users: {{storage: {{type: nfs, nfs: {{server: 10.1.2.3, path: {homes}}}, "
            f"shared: {{nfs: {{server: 10.1.2.3, path: {data}}}, path: '{within}'}}}}}}",
            "one within the other on 10.1.2.3",
        )
        for homes, data, within in (
            ("/x", "/x", ""), ("/x", "/x/data", ""), ("/x/homes", "/x", ""), ("/x", "/", "x"), ("/", "/x", ""),
            ("/x", "//x/", ""), ("/x/homes", "/x", "homes/ann"),
        )
    ),
    (
        "users: {storage: {type: shared, scratch: {size: 1Gi, type: claim}}}",
        "users.storage.scratch.type: claim has the kubelet give all volumes of a server to one group",
    ),
    ("users: {storage: {existingClaim: homes}}", "users.storage.existingClaim: is for type shared; the type is none"),
    ("ssh: {mode: both}", "at '/ssh/mode': value must be one of 'environment', 'sidecar', 'none'"),
    ("ssh: {mode: sidecar}", "ssh.mode: sidecar shows people's files, and users.storage.type none keeps none"),
    ("users: {runtimeClass: gVisor}", "at '/users/runtimeClass': 'gVisor' does not match pattern"),
    ("users: {storage: {type: nfs, nfs: {server: files.example.org, path: /}}}",
     "users.storage.nfs.server: files.example.org is a name; users' servers reach public addresses"),
    ("database: {url: postgresql://u@h/n, existingSecret: {name: s}}", "database: give url or existingSecret.name"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "said"), WRONG, ids=[values for values, _ in WRONG])
def test_wrong_values_are_refused_by_the_name_of_the_field(values: str, said: str) -> None:
    given: dict[str, Any] = yaml.safe_load(values)
    with pytest.raises(RefusedError) as refused:
        render(given)
    assert said in str(refused.value)
