"""Dimensions of the web log's star schema: a calendar; pages, referrers and user agents of each day's requests."""

from collections.abc import Sequence
from datetime import date
from functools import cache, lru_cache

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.weblog.formats.request import static_pattern
from etl.weblog.local_rows import local_rows

# Search engines: name, pattern of the host, and the query parameter that has the search words.
ENGINES = (
    ("google", r"(^|\.)google\.[a-z.]+$", "q"),
    ("baidu", r"(^|\.)baidu\.com$", "wd"),
    ("baidu", r"(^|\.)baidu\.com$", "word"),
    ("bing", r"(^|\.)bing\.com$", "q"),
    ("yahoo", r"(^|\.)search\.yahoo\.(com|co\.jp)$", "p"),
    ("yandex", r"(^|\.)yandex\.[a-z.]+$", "text"),
    ("duckduckgo", r"(^|\.)duckduckgo\.com$", "q"),
    ("sogou", r"(^|\.)sogou\.com$", "query"),
    ("so360", r"(^|\.)so\.(com|360\.cn)$", "q"),
    ("soso", r"(^|\.)soso\.com$", "w"),
    ("youdao", r"(^|\.)youdao\.com$", "q"),
    ("naver", r"(^|\.)naver\.com$", "query"),
)

_DESCRIPTION = "is_crawler int, browser string, os string, device string"
_AGENT_COLUMNS = f"datestr string, agent_key bigint, http_user_agent string, {_DESCRIPTION}"


def dates(spark: SparkSession, first: date, last: date) -> DataFrame:
    """dim_date: one row per day from `first` to `last`, both included, with ISO week and weekday (1 is Monday)."""
    days = spark.sql(f"select explode(sequence(date'{first}', date'{last}')) as date")
    weekday = F.weekday("date") + 1
    return days.select(
        F.date_format("date", "yyyyMMdd").cast("int").alias("date_key"),
        "date",
        F.year("date").alias("year"),
        F.quarter("date").alias("quarter"),
        F.month("date").alias("month"),
        F.dayofmonth("date").alias("day"),
        F.weekofyear("date").alias("week"),
        weekday.alias("weekday"),
        (weekday > 5).cast("int").alias("is_weekend"),
    )


def minutes(spark: SparkSession) -> DataFrame:
    """dim_time: one row per minute of a day; `time_key` is hour * 100 + minute."""
    hour, minute = F.floor(F.col("id") / 60).cast("int"), (F.col("id") % 60).cast("int")
    part = F.when(hour < 6, "night").when(hour < 12, "morning").when(hour < 18, "afternoon").otherwise("evening")
    return spark.range(1440).select(
        (hour * 100 + minute).alias("time_key"), hour.alias("hour"), minute.alias("minute"), part.alias("part_of_day")
    )


def pages(requests: DataFrame, static_suffixes: Sequence[str] = ()) -> DataFrame:
    """dim_page: one row per day and page (URL without its query), with its section: the first folder of the path.

    Args:
        requests: of dwd_weblog_request.
        static_suffixes: as of `etl.weblog.formats.parse.parse`.
    """
    page = F.substring_index("request", "?", 1)
    # Keys are hashes of the text: all rows of a key have the same, and any will do.
    distinct = requests.groupBy("datestr", "page_key").agg(F.first(page).alias("page"))
    section = F.regexp_extract("page", r"^(/[^/]*)(?:/|$)", 1)
    return distinct.withColumns(
        {
            # A request that is no path, such as a proxy's full URL, has no section.
            "section": F.when(section != "", section).otherwise("/"),
            "is_static": F.rlike(F.lower("page"), F.lit(static_pattern(static_suffixes))).cast("int"),
        }
    )


def referrers(requests: DataFrame) -> DataFrame:
    """dim_referrer: one row per day and referring URL, with its host, search engine and search words."""
    distinct = requests.groupBy("datestr", "referrer_key").agg(
        F.first("http_referer").alias("http_referer"), F.first("ref_host").alias("ref_host")
    )
    # Some clients send the URL in quotes.
    host, url = F.lower("ref_host"), F.replace("http_referer", F.lit('"'), F.lit(""))
    engine, words = F.lit(None).cast("string"), F.lit(None).cast("string")
    for name, pattern, parameter in ENGINES:
        is_engine = F.rlike(host, F.lit(pattern))
        value = F.try_parse_url(url, F.lit("QUERY"), F.lit(parameter))
        # An engine with two parameters, as Baidu has, is listed twice; the words are in the one that is there.
        engine, words = F.when(is_engine, name).otherwise(engine), F.coalesce(F.when(is_engine, value), words)
    return distinct.withColumns({"search_engine": engine, "search_words": _url_decode(words)})


def _url_decode(words: Column) -> Column:
    """Percent-decode as UTF-8; null for what is no UTF-8, such as an old engine's GBK."""
    decoded = F.nullif(F.trim(F.try_url_decode(words)), F.lit(""))
    # Java's decoder puts U+FFFD in the place of bytes that are no UTF-8.
    return F.when(~F.contains(decoded, F.lit("\ufffd")), decoded)


def user_agents(requests: DataFrame, *, is_few: bool) -> DataFrame:
    """dim_user_agent: one row per day and agent, with crawler flag, browser, system and device.

    A Python UDF, which sees only the distinct agents of a day: thousands, where requests are millions. Where requests
    are `is_few`, in this process: to start Spark's worker of Python takes seconds.
    """
    distinct = requests.groupBy("datestr", "agent_key").agg(F.first("http_user_agent").alias("http_user_agent"))
    if is_few:
        rows = [(*row, *describe_agent(row["http_user_agent"])) for row in distinct.collect()]
        return local_rows(requests.sparkSession, rows, _AGENT_COLUMNS)
    describe = F.udf(describe_agent, _DESCRIPTION, useArrow=False)
    return distinct.withColumn("agent", describe("http_user_agent")).select("*", "agent.*").drop("agent")


@lru_cache(maxsize=10_000)  # days have much the same agents
def describe_agent(agent: str) -> tuple[int, str | None, str | None, str | None]:
    """Classify a user agent.

    Args:
        agent: the User-Agent header.

    Returns:
        1 for a crawler, feed reader or monitor (by the list of `crawlerdetect`, or `ua-parser`'s device "Spider"),
        else 0; and the families of browser, system and device by `ua-parser`, None for unknown ones.
    """
    from ua_parser import parse

    parsed = parse(agent)
    browser, system, device = (part.family if part else None for part in (parsed.user_agent, parsed.os, parsed.device))
    is_crawler = _detector().is_crawler(agent) or device == "Spider"
    return int(is_crawler), browser, system, device


@cache  # compiling its patterns takes far longer than a match
def _detector():  # type: ignore[no-untyped-def]
    from crawlerdetect import CrawlerDetect

    return CrawlerDetect()


def flag_humans(views: DataFrame, agents: DataFrame) -> DataFrame:
    """Add `is_human` to page views: 0 for HEAD requests and for the crawlers of dim_user_agent, else 1.

    Args:
        views: page views with `agent_key` and `method`.
        agents: dim_user_agent of the same days; its crawlers are broadcast.
    """
    crawlers = agents.where("is_crawler = 1").select("datestr", "agent_key", F.lit(1).alias("crawls"))
    # Browsers of people send no HEAD; monitors and link checkers do.
    is_machine = (F.col("method") == "HEAD") | F.col("crawls").isNotNull()
    return (
        views.join(F.broadcast(crawlers), on=["datestr", "agent_key"], how="left")
        .withColumn("is_human", F.when(is_machine, 0).otherwise(1))
        .drop("crawls")
    )
