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
    ("users: {storage: {type: nfs}}", "at '/users/storage/type': value must be one of 'none', 'dynamic', 'shared'"),
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
    ("users: {storage: {existingClaim: homes}}", "users.storage.existingClaim: is for type shared; the type is none"),
    ("database: {url: postgresql://u@h/n, existingSecret: {name: s}}", "database: give url or existingSecret.name"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "said"), WRONG, ids=[values for values, _ in WRONG])
def test_wrong_values_are_refused_by_the_name_of_the_field(values: str, said: str) -> None:
    given: dict[str, Any] = yaml.safe_load(values)
    with pytest.raises(RefusedError) as refused:
        render(given)
    assert said in str(refused.value)
