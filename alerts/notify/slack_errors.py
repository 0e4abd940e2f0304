"""What Slack's refusals mean: the codes, declared as data, and the exception that each becomes."""

from __future__ import annotations

from collections.abc import Mapping

from alerts.notify.sink import Rejected, Retry

_TOKEN = "set slack.bot_token (CAMPAIGNWATCH_SLACK__BOT_TOKEN) to the app's Bot User OAuth Token, which starts with xoxb-"  # nosec B105 # advice
_SCOPE = "give the app the bot scope chat:write, install it in the workspace again, and invite it to the channel"
_CHANNEL = "check slack.channel; a private channel is found only after the app was invited to it (/invite in the channel)"
_INVITE = "invite the app to the channel (/invite in the channel), or give it the bot scope chat:write.public"
_ARCHIVED = "unarchive the channel, or name another in slack.channel"
_POLICY = "a workspace administrator has to allow the app to post here"
_WEBHOOK = "make a new incoming webhook in the app's settings and put its address into slack.webhook_url"

#: Refusals that the configuration or the workspace causes -> what to do. They may be put right while changes wait.
FIXABLE: dict[str, str] = {
    "not_authed": _TOKEN,
    "invalid_auth": _TOKEN,
    "account_inactive": _TOKEN,
    "token_revoked": _TOKEN,
    "token_expired": _TOKEN,
    "not_allowed_token_type": _TOKEN,
    "missing_scope": _SCOPE,
    "no_permission": _SCOPE,
    "channel_not_found": _CHANNEL,
    "not_in_channel": _INVITE,
    "is_archived": _ARCHIVED,
    "channel_is_archived": _ARCHIVED,
    "restricted_action": _POLICY,
    "ekm_access_denied": _POLICY,
    "access_denied": _POLICY,
    "action_prohibited": _POLICY,
    "posting_to_general_channel_denied": _POLICY,
    "no_service": _WEBHOOK,
    "no_service_id": _WEBHOOK,
    "no_team": _WEBHOOK,
    "team_disabled": _WEBHOOK,
    "no_active_hooks": _WEBHOOK,
    "invalid_token": _WEBHOOK,
}

_REPORT = "this one message is skipped; please report it with the log line"
_THREAD = "the reply is left out: nobody may reply there; the incident's message is up to date all the same"
#: Refusals of one message -> what to do.
OF_MESSAGE: dict[str, str] = dict.fromkeys(
    (
        "invalid_blocks",
        "invalid_blocks_format",
        "invalid_payload",
        "invalid_arguments",
        "invalid_attachments",
        "msg_blocks_too_long",
        "msg_too_long",
        "no_text",
        "metadata_too_large",
        "invalid_metadata_format",
        "invalid_metadata_schema",
        "thread_not_found",
    ),
    _REPORT,
) | dict.fromkeys(("cannot_reply_to_message", "restricted_action_thread_locked", "restricted_action_non_threadable_channel"), _THREAD)
#: Those of them that a message of text alone may escape.
OF_BLOCKS = frozenset(("invalid_blocks", "invalid_blocks_format", "invalid_payload", "invalid_attachments", "msg_blocks_too_long"))

#: Refusals that pass by themselves.
TRANSIENT = frozenset(
    (
        "ratelimited",
        "rate_limited",
        "message_limit_exceeded",
        "internal_error",
        "fatal_error",
        "service_unavailable",
        "request_timeout",
        "rollup_error",
        # While a workspace or a channel is moved.
        "team_added_to_org",
        "org_login_required",
        "external_channel_migrating",
    )
)
#: Answers to chat.update that mean: post a new message instead. Whether the channel of the settings can be posted to is seen then.
GONE = frozenset(
    (
        "message_not_found",
        "cant_update_message",
        "edit_window_closed",
        "is_inactive",
        "channel_not_found",
        "not_in_channel",
        "is_archived",
        "channel_is_archived",
    )
)


def refusal(status: int, code: str, headers: Mapping[str, str]) -> Retry | Rejected:
    """What an answer that is no success means. `code` is Slack's own, from the JSON or the plain text of the body; may be empty."""
    if status == 429 or code in ("ratelimited", "rate_limited"):
        return Retry("ratelimited", "Slack asks to slow down (429)", after=_retry_after(headers))
    if code in TRANSIENT:
        return Retry(code, f"Slack has a passing fault ({code})")
    if status >= 500:
        return Retry("server_error", f"Slack answers with status {status}")
    if code in FIXABLE:
        return Rejected(code, f"Slack refuses ({code}): {FIXABLE[code]}", fixable=True)
    if code in OF_MESSAGE:
        return Rejected(code, f"Slack does not accept the message ({code}): {OF_MESSAGE[code]}", fixable=False)
    if code:
        # The code comes from outside: it goes to the log, not into a metric's label. It may pass, or be put right.
        return Rejected("other", f"Slack refuses (status {status}, {code[:100]!r}); see Slack's documentation of this error", fixable=True)
    return Rejected("not_slack", f"status {status} without a code of Slack's; is slack.api_url or slack.webhook_url right?", fixable=True)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "")
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None
