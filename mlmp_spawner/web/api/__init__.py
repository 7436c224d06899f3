"""The REST API: a module for each subject, with its calls and its rows of the table."""
