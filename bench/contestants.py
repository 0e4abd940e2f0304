"""Who takes part, job by job, and what each leaves out beside Campaignwatch."""

from __future__ import annotations

import json
from dataclasses import dataclass

from bench.environments import BYTEWAX, FAUST, FLINK, PATHWAY, QUIX, Environment
from streams.config import DEFAULT_CUBES

CAMPAIGNWATCH = "campaignwatch"
RAW = "raw"
PLAIN_FAUST = "faust"
#: Peers in Python (those written in Rust or C below count too): the best of them is what the goal speaks of.
PYTHON_PEERS = ("bytewax", "quix", "pathway")


@dataclass(frozen=True)
class Contender:
    """A system at one job."""

    name: str
    title: str
    #: What it does of the job, and what it leaves out beside Campaignwatch.
    does: str
    #: Module of bench.contenders; None: Campaignwatch's own worker.
    program: str | None = None
    #: None: that of Campaignwatch.
    environment: Environment | None = None
    #: Part of the events that it gets, so that a run does not take for ever; the rate is what counts.
    share: float = 1.0
    variant: str = ""
    #: Whether it has an answer that can be checked.
    answers: bool = True
    answers_in_redis: bool = False
    #: Whether its packages are installed beside Campaignwatch too.
    runs_here: bool = False


_CAMPAIGN_ONLY = json.dumps({"campaign": DEFAULT_CUBES["campaign"]})
_YSB = "filter, join, count per campaign and 10 s, Redis"
_ONE_TABLE = "count and cost per campaign and 10 s"
_LEFT_OUT = "no validation, no dedupe, no uniques, no sketches, no quarantine, no database"
_RAW = Contender(RAW, "aiokafka, raw fetch", "fetches and counts, nothing else: the ceiling", "raw_fetch", answers=False)

THROUGHPUT = (
    _RAW,
    Contender(
        CAMPAIGNWATCH,
        "Campaignwatch",
        "everything on: validates, dedupes, ten cubes in four sizes of panes, uniques, sketches, offsets exact, all of it in Redis",
    ),
    Contender(
        PLAIN_FAUST,
        "Faust, ten cubes",
        "count and cost for the ten default cubes per 10 s; " + _LEFT_OUT + "; counts twice after a crash",
        "faust_kpis",
        FAUST,
        1 / 150,
        json.dumps(DEFAULT_CUBES),
        runs_here=True,
    ),
    Contender(
        "faust-light",
        "Faust, one cube",
        "count and cost for the cube campaign only; " + _LEFT_OUT + "; counts twice after a crash",
        "faust_kpis",
        FAUST,
        1 / 30,
        _CAMPAIGN_ONLY,
        runs_here=True,
    ),
    Contender(
        "bytewax", "Bytewax", "count and cost per campaign and 10 s; " + _LEFT_OUT + ", no recovery store", "bytewax_windows", BYTEWAX
    ),
    Contender("quix", "Quix Streams", "count and cost per campaign and 10 s; " + _LEFT_OUT, "quix_windows", QUIX, 1 / 3),
    Contender("pathway", "Pathway", "count and cost per campaign and 10 s; " + _LEFT_OUT + ", no persistence", "pathway_windows", PATHWAY),
    Contender(
        "flink", "PyFlink SQL (JVM)", "count and cost per campaign and 10 s; " + _LEFT_OUT + ", no checkpoints", "flink_windows", FLINK
    ),
)

YSB = (
    _RAW,
    Contender(
        CAMPAIGNWATCH,
        "Campaignwatch",
        "everything on, as ever; views per ad are in the cube campaign_creative, and ads are joined to campaigns when it is read",
    ),
    *(
        Contender(
            name,
            title,
            "filter, join, count per campaign and 10 s, Redis",
            program,
            environment,
            share,
            answers_in_redis=True,
            runs_here=here,
        )
        for name, title, program, environment, share, here in (
            (PLAIN_FAUST, "Faust", "faust_ysb", FAUST, 1 / 20, True),
            ("bytewax", "Bytewax", "bytewax_ysb", BYTEWAX, 1.0, False),
            ("quix", "Quix Streams", "quix_ysb", QUIX, 1 / 3, False),
            ("pathway", "Pathway", "pathway_ysb", PATHWAY, 1.0, False),
            ("flink", "PyFlink SQL (JVM)", "flink_ysb", FLINK, 1.0, False),
        )
    ),
)
