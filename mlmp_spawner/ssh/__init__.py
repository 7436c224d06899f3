"""The SSH gateway: a jump host that lets people to their own running servers, and nowhere else."""
