"""The first dashboard: the campaigns and their money, what is wrong now, and whether the product itself keeps up."""

from __future__ import annotations

import warnings

from grafana.panels import (
    INCIDENTS,
    KPIS,
    Column,
    JsonRows,
    Query,
    choice,
    json_table,
    label_choice,
    label_table,
    number,
    series,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import dashboard as builders
    from grafana_foundation_sdk.models import dashboard

MONEY = "short"

NOW = (
    number(
        "Events per second",
        "sum(campaignwatch:events:rate1m)",
        description="Records read from all topics, whatever became of them.",
        unit="eps",
    ),
    number(
        "Behind",
        "max(campaignwatch:catch_up_seconds)",
        description="Seconds that the waiting records of the slowest topic would take at the speed of the last minute.",
        unit="s",
        decimals=0,
        warn=30,
        bad=120,
    ),
    number(
        "Newest complete",
        "time() - max(campaignwatch_watermark_seconds)",
        description="Age of the newest event time up to which a partition is complete. It grows when no events come.",
        unit="s",
        decimals=0,
        warn=60,
        bad=300,
    ),
    number(
        "Refused",
        "max(campaignwatch:quarantined:ratio5m)",
        description="Share of the records of the worst topic that went to quarantine in the last 5 minutes.",
        unit="percentunit",
        decimals=2,
        warn=0.001,
        bad=0.01,
    ),
    number(
        "Workers",
        'sum(up{job="campaignwatch-streams"})',
        description="Streams workers that answer.",
        unit="none",
        bad_below=1,
    ),
    number(
        "Open incidents",
        "sum(campaignwatch_alerts_incidents_open)",
        description="Incidents that are open now, of every severity.",
        unit="none",
        warn=1,
    ),
)

CAMPAIGN_COLUMNS = (
    Column("spend", "Spend", unit=MONEY, decimals=2),
    Column("net_revenue", "Net revenue", unit=MONEY, decimals=2),
    Column("roas", "ROAS", decimals=2),
    Column("impressions", "Impressions", unit="short"),
    Column("clicks", "Clicks", unit="short"),
    Column("ctr", "CTR", unit="percentunit", decimals=2),
    Column("conversions", "Conversions", unit="short"),
    Column("cvr", "CVR", unit="percentunit", decimals=2),
    Column("cpa", "CPA", unit=MONEY, decimals=2),
    Column("cpc", "CPC", unit=MONEY, decimals=3),
    Column("reach", "Reach", unit="short", decimals=0),
)

TOP_CAMPAIGNS = JsonRows(
    datasource=KPIS,
    path="/api/kpis",
    parameters={
        "cube": "campaign",
        "window": "${window}",
        "sort": "-spend",
        "limit": "50",
        "columns": ",".join(column.field for column in CAMPAIGN_COLUMNS),
        # A dashboard asks again every ten seconds; what it takes is computed beforehand then.
        "max_age": "5s",
    },
    root="rows",
    columns=(Column("campaign_id", "Campaign", "string", width=200), *CAMPAIGN_COLUMNS),
)

OPEN_INCIDENTS = JsonRows(
    datasource=INCIDENTS,
    path="/api/incidents",
    parameters={"state": "open"},
    root="incidents",
    columns=(
        Column("opened_at", "Opened", "timestamp", width=170),
        Column("severity", "Severity", "string", width=90),
        Column("rule", "Rule", "string", width=150),
        Column("name", "Campaign", "string", width=180),
        Column("observed", "Observed", decimals=2, width=100),
        Column("expected.low", "From", decimals=2, width=90),
        Column("expected.high", "To", decimals=2, width=90),
        Column("money_at_stake", "At stake", unit=MONEY, decimals=2, width=100),
        Column("explanation", "What is seen", "string"),
        Column("incident_id", "Incident", "string", width=120),
    ),
)

CAMPAIGNS = (
    json_table(
        "Top campaigns by spend, last ${window}",
        TOP_CAMPAIGNS,
        description="The 50 campaigns that spend most. KPIs that divide by zero are empty, not 0.",
        height=12,
    ),
    series(
        "Spend by channel",
        Query('max by (row) (campaignwatch_kpi{cube="channel", measure="spend", window="$kpi_window"})', "{{row}}"),
        description="Money of the reporting currency in the chosen window.",
        unit=MONEY,
        stacked=True,
    ),
    series(
        "ROAS by channel",
        Query('max by (row) (campaignwatch_kpi{cube="channel", measure="roas", window="$kpi_window"})', "{{row}}"),
        description="Net revenue over spend in the chosen window; no line where nothing was spent.",
        unit="none",
        decimals=2,
    ),
    series(
        "CTR by channel",
        Query('max by (row) (campaignwatch_kpi{cube="channel", measure="ctr", window="$kpi_window"})', "{{row}}"),
        description="Clicks over impressions in the chosen window.",
        unit="percentunit",
        decimals=2,
    ),
)

WRONG = (
    json_table(
        "Open incidents",
        OPEN_INCIDENTS,
        description="What the judges hold to be wrong now, newest first, with what they expected.",
        height=9,
        empty="no open incident",
    ),
)

PIPELINE = (
    series(
        "Events by topic and outcome",
        Query("campaignwatch:events:rate1m", "{{topic}} {{outcome}}"),
        description="Every record is counted once: applied, duplicate, too_late or quarantined.",
        unit="eps",
        stacked=True,
    ),
    series(
        "Records that wait",
        Query("campaignwatch:lag_records:sum", "{{topic}}"),
        description="End of the log less the applied offset, summed over partitions.",
        unit="short",
    ),
    series(
        "Age of the watermark",
        Query("time() - max by (topic) (campaignwatch_watermark_seconds)", "{{topic}}, newest partition"),
        Query("time() - min by (topic) (campaignwatch_watermark_seconds)", "{{topic}}, oldest partition"),
        description="How far event time has come. A partition without records for long keeps its old watermark and holds nobody up.",
        unit="s",
    ),
    series(
        "From record to table",
        Query("campaignwatch:visible_seconds:p99_5m", "{{topic}}, 99 of 100"),
        Query("histogram_quantile(0.5, sum by (topic, le) (rate(campaignwatch_visible_seconds_bucket[5m])))", "{{topic}}, half"),
        description="Age of records, by their own time, when they are in the tables, over 5 minutes. A backlog is as old as it is.",
        unit="s",
        span=12,
    ),
    series(
        "Time of a write",
        Query("histogram_quantile(0.5, sum by (le) (rate(campaignwatch_flush_seconds_bucket[$__rate_interval])))", "half"),
        Query("histogram_quantile(0.99, sum by (le) (rate(campaignwatch_flush_seconds_bucket[$__rate_interval])))", "99 of 100"),
        description="From a full batch to its rows and its offset in Redis.",
        unit="s",
        span=12,
    ),
    series(
        "Events per write",
        Query("sum(rate(campaignwatch_flush_events_sum[1m])) / sum(rate(campaignwatch_flush_events_count[1m]))", "mean"),
        Query("sum by (topic) (campaignwatch_pending_events)", "{{topic}}, gathered now"),
        description="Batches grow by themselves when more comes; that is what makes a worker fast.",
        unit="short",
    ),
    series(
        "Quarantine by reason",
        Query("sum by (topic, reason) (rate(campaignwatch_quarantined_total[5m]))", "{{topic}} {{reason}}"),
        description="campaignwatch quarantine list shows the records themselves.",
        unit="eps",
        stacked=True,
    ),
    series(
        "Retried, fenced and failed writes",
        Query("sum(increase(campaignwatch_flush_retries_total[$__rate_interval]))", "retried"),
        Query("sum(increase(campaignwatch_fenced_total[$__rate_interval]))", "fenced"),
        Query("sum(increase(campaignwatch_flush_failures_total[$__rate_interval]))", "failed"),
        description="Retried: no answer. Fenced: the partition had moved on. Neither loses anything nor should last. Failed: a defect.",
        unit="short",
    ),
    series(
        "What workers keep in memory",
        Query("sum(campaignwatch_open_cells)", "open cells"),
        Query("sum(campaignwatch_dedupe_ids)", "ids known for dedupe"),
        description="Both are bounded: cells by streams.open_cells, ids by streams.dedupe_horizon.",
        unit="short",
        span=12,
    ),
    series(
        "Events without a key and folded rows",
        Query("sum by (topic) (rate(campaignwatch_events_without_key_total[5m]))", "{{topic}} without a key"),
        Query("sum by (cube) (rate(campaignwatch_rows_folded_total[5m]))", "{{cube}} folded"),
        description="Events that a resend may double, and rows above streams.max_rows_per_cube.",
        unit="eps",
        span=12,
    ),
    label_table(
        "Health alerts that fire",
        'ALERTS{alertname=~"Campaignwatch.*", alertstate="firing"}',
        description="Rules of grafana/prometheus/rules. docs/operations.md says what to do for each.",
        hidden=("Time", "__name__", "alertstate", "product", "Value"),
        span=24,
        height=6,
    ),
)

JUDGING = (
    series(
        "Judged time behind the clock",
        Query("max(campaignwatch_alerts_lag_seconds and on (instance) campaignwatch_alerts_leader == 1)", "behind"),
        description="Only what every partition has passed is judged; so this follows the watermark.",
        unit="s",
    ),
    series(
        "Ticks by how they ended",
        Query("sum by (outcome) (increase(campaignwatch_alerts_ticks_total[1m]))", "{{outcome}}"),
        description="In the last minute. behind: the tables are too old to be judged; failed: see the log.",
        unit="short",
        stacked=True,
    ),
    series(
        "Open incidents by rule",
        Query("sum by (rule, severity) (campaignwatch_alerts_incidents_open)", "{{rule}} {{severity}}"),
        description="As the leader knows them.",
        unit="short",
        stacked=True,
    ),
)

DELIVERY = (
    series(
        "Messages that wait",
        Query("max by (sink) (campaignwatch_notify_queue_length)", "{{sink}}"),
        description="Changes of incidents in the outbox that a receiver has not had yet.",
        unit="short",
        span=12,
    ),
    series(
        "Oldest message that waits",
        Query("max by (sink) (campaignwatch_notify_queue_age_seconds)", "{{sink}}"),
        description="Grows while a receiver cannot be reached; nothing is lost meanwhile.",
        unit="s",
        span=12,
    ),
    series(
        "From fault to message",
        Query("campaignwatch:notify_delay_seconds:p99_1h", "{{sink}}, 99 of 100"),
        Query("histogram_quantile(0.5, sum by (sink, le) (increase(campaignwatch_notify_delay_seconds_bucket[1h])))", "{{sink}}, half"),
        description="From the end of the window that shows a fault to the message about it, over the last hour.",
        unit="s",
        span=12,
    ),
    series(
        "Messages",
        Query("sum by (sink) (increase(campaignwatch_notify_delivered_total[5m]))", "{{sink}} delivered"),
        Query("sum by (sink, reason) (increase(campaignwatch_notify_retried_total[5m]))", "{{sink}} retried: {{reason}}"),
        Query("sum by (sink, reason) (increase(campaignwatch_notify_failed_total[5m]))", "{{sink}} refused: {{reason}}"),
        description="In the last 5 minutes. Refused ones are given up, retried ones are not.",
        unit="short",
        span=12,
    ),
)

ROWS = (
    ("Now", NOW),
    ("Campaigns", CAMPAIGNS),
    ("What is wrong", WRONG),
    ("The pipeline itself", PIPELINE),
    ("The judges", JUDGING),
    ("Messages to people", DELIVERY),
)


def overview() -> dashboard.Dashboard:
    """The dashboard, laid out from left to right and numbered from top to bottom."""
    board = (
        builders.Dashboard("Campaignwatch: overview")
        .uid("campaignwatch-overview")
        .description("Campaigns and their money, open incidents, and the health of the pipeline.")
        .tags(["campaignwatch"])
        .readonly()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .with_variable(choice("window", "Table window", ("5m", "15m", "1h", "24h"), "Window of the table of campaigns."))
        .with_variable(
            label_choice("kpi_window", "Line window", "label_values(campaignwatch_kpi, window)", "Window of the lines by channel.")
        )
    )
    panel_id = 1
    for title, panels in ROWS:
        board.with_row(builders.Row(title).id(panel_id))
        for panel in panels:
            panel_id += 1
            board.with_panel(panel.id(panel_id))
        panel_id += 1
    return board.build()
