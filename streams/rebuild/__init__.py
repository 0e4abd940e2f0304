"""Building the tables anew from the log, beside those in use, and switching over."""
