"""What is asked of a Kubernetes cluster: the few calls about pods and nodes, and what is written on the pods."""
