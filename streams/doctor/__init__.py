"""What `campaignwatch doctor` looks at: `kafka_look` and `redis_look` ask, the other modules judge what was answered (pure).

What belongs to the alerts process, and the command itself, are in `alerts.doctor`.
"""
