"""What the simulated marketer has: accounts, markets, channels, platforms. Plain data; `world` builds campaigns from it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from streams.config import SpendSource

#: Reporting currency per unit of the other currencies that campaigns are billed in.
RATES: dict[str, Decimal] = {"EUR": Decimal("1.0842"), "GBP": Decimal("1.2710"), "JPY": Decimal("0.00653")}

#: The platform whose spend is taken from its own reports instead of the cost on events.
REPORTING_PLATFORM = "partner_network"
SPEND_SOURCES: dict[str, SpendSource] = {REPORTING_PLATFORM: SpendSource.REPORTS}


@dataclass(frozen=True, slots=True)
class Market:
    """Where a campaign is shown, and how it is billed."""

    code: str
    account_id: str
    time_zone: str
    currency: str
    regions: tuple[str, ...]


MARKETS = (
    Market("US-East", "acct-americas", "America/New_York", "USD", ("us-ny", "us-fl", "us-ma")),
    Market("DE", "acct-europe", "Europe/Berlin", "EUR", ("de-be", "de-by", "de-nw")),
    Market("US-West", "acct-americas", "America/Los_Angeles", "USD", ("us-ca", "us-wa", "us-or")),
    Market("UK", "acct-europe", "Europe/London", "GBP", ("gb-lnd", "gb-man", "gb-edi")),
    Market("JP", "acct-asia", "Asia/Tokyo", "JPY", ("jp-13", "jp-27", "jp-23")),
    Market("FR", "acct-europe", "Europe/Paris", "EUR", ("fr-idf", "fr-ara", "fr-pac")),
)


@dataclass(frozen=True, slots=True)
class Channel:
    """How people behave on a channel. Rates are probabilities; money is in US dollars."""

    name: str
    platforms: tuple[str, ...]
    #: Impression -> click.
    ctr: float
    #: Click -> conversion.
    cvr: float
    #: Mean cost of a click.
    cpc: float
    #: Interaction kind -> probability per impression.
    interactions: tuple[tuple[str, float], ...]
    #: Conversion kind -> share of conversions.
    conversions: tuple[tuple[str, float], ...]


CHANNELS = (
    Channel("search", ("google_ads",), 0.14, 0.18, 0.90, (), (("purchase", 0.7), ("lead", 0.3))),
    Channel(
        "social",
        ("meta_ads", "tiktok_ads"),
        0.12,
        0.17,
        0.45,
        (("like", 0.03), ("share", 0.006), ("comment", 0.006), ("save", 0.004), ("follow", 0.002)),
        (("purchase", 0.55), ("lead", 0.35), ("signup", 0.1)),
    ),
    Channel("display", ("google_ads", "meta_ads"), 0.06, 0.12, 0.30, (), (("lead", 0.6), ("purchase", 0.4))),
    Channel("video", ("tiktok_ads", "google_ads"), 0.07, 0.12, 0.35, (("view", 0.2), ("like", 0.02)), (("signup", 0.5), ("purchase", 0.5))),
    Channel("email", (REPORTING_PLATFORM,), 0.15, 0.2, 0.08, (), (("purchase", 0.8), ("lead", 0.2))),
    Channel("affiliate", (REPORTING_PLATFORM,), 0.12, 0.2, 0.55, (), (("purchase", 1.0),)),
)

#: Channel of each campaign in order of size, repeated. The largest are on channels with a steep funnel, so that a minute tells something.
CHANNEL_ORDER = ("search", "social", "search", "social", "display", "email", "video", "search", "affiliate", "social", "display", "video")

OWNERS = ("ana.silva", "jonas.weber", "mei.tanaka", "priya.nair", "tom.baker")
SEGMENTS = ("new_visitors", "returning", "loyal", "lookalike")
SUBJECTS = (
    "Brand",
    "Autumn Sale",
    "Running Shoes",
    "Trail Jackets",
    "Gift Cards",
    "Members",
    "Yoga",
    "Outlet",
    "Kids",
    "Winter Coats",
    "Cycling",
    "App Launch",
)
KEYWORDS = ("running shoes", "trail jacket", "yoga mat", "gift card", "rain coat", "bike lights")
BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/131.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) Safari/605.1",
    "Mozilla/5.0 (Linux; Android 15) Chrome/131.0 Mobile",
)
BOT_BROWSER = "python-requests/2.32"
