"""Where jobs run: the seam, and a module for each back-end."""
