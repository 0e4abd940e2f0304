"""The command `campaignwatch doctor`, and its look at the alerts process. The rest of what it looks at is in `streams.doctor`."""
