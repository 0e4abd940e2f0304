"""Judges of traffic: history in, verdict with evidence out. Nothing here reads a clock or a table."""
