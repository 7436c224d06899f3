"""The HTTP face of the service: API and pages."""
