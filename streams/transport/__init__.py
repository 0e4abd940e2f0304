"""A Faust transport that hands agents whole fetched batches and reads from the offsets stored with the tables.

Faust finds it through the entry point `faust.transports`, by the scheme of the broker URL: `campaignwatch://127.0.0.1:9092`.
"""

from streams.transport.batches import Batch, Consumer, Owners, OwningApp, Transport

__all__ = ["Batch", "Consumer", "Owners", "OwningApp", "Transport"]
