"""The pages of those who run the machines. Each asks for the right ``admin``; nobody else finds a way to them."""
