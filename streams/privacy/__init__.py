"""Erasing a user: out of the tables, and out of whatever is read from the log again."""
