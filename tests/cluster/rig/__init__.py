"""The project's own test cluster: a real two-node Kubernetes on one machine, from nothing.

The control plane runs on the machine itself, each node (containerd, kubelet, kube-proxy) in net, mount and pid
namespaces of its own, with GPUs that only the API server knows of. ``make test-cluster`` brings it up, runs the tests
marked ``cluster`` and takes it down; ``python -m tests.cluster.rig up|down|status|shell`` is for whoever writes them.

It needs root on Linux with cgroup v1 or hybrid, Go, and what ``tests/install.sh cluster`` installs.
"""
