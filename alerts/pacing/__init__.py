"""Judges of money: a campaign's spend against its plan, in the days of its own time zone."""
