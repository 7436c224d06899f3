"""PScan: the results of a parameter scan side by side, by what the paths of the files say of their parameters."""
