"""What is done with jobs, one transaction each."""
