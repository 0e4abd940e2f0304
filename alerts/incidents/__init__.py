"""Incidents: the life of a problem from the first verdict to its resolution."""
