"""etcd, API server, controller-manager and scheduler, on this machine."""

from __future__ import annotations

import signal
import ssl

import httpx

from .certificates import key, kubeconfig, path
from .console import wait_until
from .places import ADMIN, API, BIN, ETCD, HOST, LOOPBACK, PODS, RUN, SERVICES
from .processes import Process

PEER = f"http://{LOOPBACK}:2380"


class ApiServer(Process):
    """It counts as started when it says that it is ready.

    ``was_away``: whether it was stopped or frozen since its clients last caught up (``Cluster.catch_up``).
    """

    was_away = False

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.was_away = True
        super().stop(number)

    def freeze(self) -> None:
        self.was_away = True
        super().freeze()

    def start(self) -> None:
        """Raises RigError when it is not ready within 60 s."""
        super().start()
        wait_until(self.ready, f"a ready API server ({self.log})", seconds=60)

    def ready(self) -> bool:
        """Whether it takes requests now; raises RigError where it has ended."""
        self.require()
        context = ssl.create_default_context(cafile=str(path("ca")))
        context.load_cert_chain(path("admin"), key("admin"))
        try:
            return httpx.get(f"{API}/readyz", verify=context, trust_env=False, timeout=2).status_code == 200
        except httpx.TransportError:
            return False


etcd = Process("etcd")
api_server = ApiServer("api-server")
controller_manager = Process("controller-manager")
scheduler = Process("scheduler")


def up() -> None:
    """Returns when the API server is ready and the other two have begun."""
    _define()
    etcd.start()
    api_server.start()
    # Not before: the controller-manager ends at once where the RBAC bootstrap roles are missing.
    controller_manager.start()
    scheduler.start()


def _define() -> None:
    etcd.define(
        BIN / "etcd",
        f"--data-dir={RUN / 'etcd'}",
        # What is lost in a power cut is of no use here, and the disk is shared.
        "--unsafe-no-fsync",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        f"--listen-peer-urls={PEER}",
        f"--initial-advertise-peer-urls={PEER}",
        f"--initial-cluster=default={PEER}",
    )
    api_server.define(
        BIN / "kube-apiserver",
        f"--etcd-servers={ETCD}",
        f"--bind-address={HOST}",
        f"--advertise-address={HOST}",
        "--secure-port=6443",
        f"--service-cluster-ip-range={SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={path('ca')}",
        f"--tls-cert-file={path('api-server')}",
        f"--tls-private-key-file={key('api-server')}",
        f"--kubelet-client-certificate={path('admin')}",
        f"--kubelet-client-key={key('admin')}",
        f"--kubelet-certificate-authority={path('ca')}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={key('service-accounts')}",
        f"--service-account-signing-key-file={key('service-accounts')}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--requestheader-client-ca-file={path('front-proxy-ca')}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={path('front-proxy')}",
        f"--proxy-client-key-file={key('front-proxy')}",
        # Webhooks are called at pod addresses: the machine has no kube-proxy of its own.
        "--enable-aggregator-routing=true",
    )
    controller_manager.define(
        BIN / "kube-controller-manager",
        *_caller("controller-manager"),
        "--controllers=*,-node-ipam-controller",
        f"--cluster-cidr={PODS}",
        f"--service-cluster-ip-range={SERVICES}",
        "--allocate-node-cidrs=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={key('service-accounts')}",
        f"--root-ca-file={path('ca')}",
        f"--cluster-signing-cert-file={path('ca')}",
        f"--cluster-signing-key-file={key('ca')}",
    )
    scheduler.define(BIN / "kube-scheduler", *_caller("scheduler"))


def _caller(name: str) -> list[str]:
    config = kubeconfig(name)
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--leader-elect=false",
        f"--bind-address={LOOPBACK}",
        # 500 pods took 56 s at the default rates, 9 s at these.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def kubectl() -> list[str]:
    """The beginning of a command that asks this cluster as its admin."""
    return [str(BIN / "kubectl"), f"--kubeconfig={ADMIN}"]
