"""The spawners and the enforcers."""
