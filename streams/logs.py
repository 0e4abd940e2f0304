"""How the processes log: one line a record on standard error, with the time in UTC."""

from __future__ import annotations

import logging
import sys
import time

_FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"

#: Libraries that repeat on every retry what our own messages say once.
_NOISY = ("aiokafka", "faust", "mode", "aiohttp.access", "slack_sdk")


def configure(level: str) -> None:
    """Send records of `level` (a name of logging, such as INFO) and above to standard error; libraries only from WARNING on."""
    formatter = logging.Formatter(_FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    if logging.getLogger().getEffectiveLevel() > logging.DEBUG:
        for name in _NOISY:
            logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().getEffectiveLevel()))
    else:
        # It would write each request, and with PLAIN the password is in one.
        logging.getLogger("aiokafka.conn").setLevel(logging.INFO)
