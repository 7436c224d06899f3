"""How people log in, and what becomes of those whom the place where they log in does not know any more."""
