"""The commands, by what they do; each module is imported when one of its commands is called."""
