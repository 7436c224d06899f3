"""What MLMP does, one transaction each. Callers run these functions in worker threads."""
