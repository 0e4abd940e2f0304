"""The quarantine topic: what is written there, and the commands that list it, show it and send its records back."""

from streams.quarantine.record import Coordinates, Quarantined, QuarantineError, decode_quarantined, quarantine_record

__all__ = ["Coordinates", "QuarantineError", "Quarantined", "decode_quarantined", "quarantine_record"]
