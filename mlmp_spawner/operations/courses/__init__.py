"""What is done with courses: one transaction each."""
