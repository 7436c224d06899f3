"""Benchmarks on a real Kubernetes: ``make bench-cluster``."""
