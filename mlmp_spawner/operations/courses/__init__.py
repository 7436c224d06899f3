"""Courses: what they are, who is in them, their classes and seats."""
