"""Certificates and kubeconfigs of one run: two authorities, and a certificate for every program that calls another."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import trustme

from .places import ADMIN, API, CERTIFICATES, HOST, KUBERNETES_SERVICE, NODES, RUN

#: name -> (common name, organization) of those who call the API server.
CLIENTS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "kube-proxy": ("system:kube-proxy", None),
    **{node.name: (f"system:node:{node.name}", "system:nodes") for node in NODES},
}
# Go refuses the empty list of names that a certificate without any would have.
CALLER = "caller.mlmp.test"
SERVER_NAMES = (
    HOST, "127.0.0.1", KUBERNETES_SERVICE,
    "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
)  # fmt: skip


def make() -> None:
    """Writes them all below RUN; the keys are readable by root only."""
    CERTIFICATES.mkdir(parents=True, exist_ok=True)
    RUN.chmod(0o711)
    CERTIFICATES.chmod(0o700)
    authority = trustme.CA(organization_name="mlmp test cluster")
    front_proxy = trustme.CA(organization_name="mlmp test cluster, front proxy")
    authority.cert_pem.write_to_path(path("ca"))
    front_proxy.cert_pem.write_to_path(path("front-proxy-ca"))
    # Needed by the controller-manager, which signs what is asked for through the API.
    authority.private_key_pem.write_to_path(key("ca"))
    _write("api-server", authority.issue_cert(*SERVER_NAMES, common_name="kube-apiserver"))
    _write("front-proxy", front_proxy.issue_cert(CALLER, common_name="front-proxy-client"))
    # Its key signs the tokens of service accounts; as a certificate it serves nobody.
    _write("service-accounts", authority.issue_cert(CALLER, common_name="service-accounts"))
    for name, (common_name, organization) in CLIENTS.items():
        _write(name, authority.issue_cert(CALLER, common_name=common_name, organization_name=organization))
        _write_kubeconfig(name)
    for node in NODES:
        _write(f"{node.name}-serving", authority.issue_cert(node.address, node.name, common_name=node.name))


def path(name: str) -> Path:
    """Its certificate."""
    return CERTIFICATES / f"{name}.crt"


def key(name: str) -> Path:
    """Its private key."""
    return CERTIFICATES / f"{name}.key"


def kubeconfig(name: str) -> Path:
    """Its way to the API server."""
    return ADMIN if name == "admin" else RUN / f"{name}.kubeconfig"


def _write(name: str, certificate: trustme.LeafCert) -> None:
    certificate.private_key_pem.write_to_path(key(name))
    certificate.cert_chain_pems[0].write_to_path(path(name))


def _write_kubeconfig(name: str) -> None:
    def data(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    user = {"client-certificate-data": data(path(name)), "client-key-data": data(key(name))}
    cluster = {"server": API, "certificate-authority-data": data(path("ca"))}
    context = {"cluster": "mlmp-test", "user": name}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "mlmp-test", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "mlmp-test", "context": context}],
        "current-context": "mlmp-test",
    }
    kubeconfig(name).write_text(json.dumps(config, indent=1))
    kubeconfig(name).chmod(0o600)
