"""What user images need and no more: REST client and command line."""
