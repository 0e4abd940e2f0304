"""The alerts process: a lease, a tick, and what they need."""
