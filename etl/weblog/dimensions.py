"""Dimensions of the web log's star: calendar made ahead; pages, referrers and user agents of each day's requests."""

from datetime import date
from functools import cache

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.weblog.parse import STATIC

# Search engines: name, host, and the parameter that holds the words.
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


def calendar(spark: SparkSession, first: date, last: date) -> DataFrame:
    """dim_date from `first` to `last`."""
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
    """dim_time."""
    hour, minute = F.floor(F.col("id") / 60).cast("int"), (F.col("id") % 60).cast("int")
    part = F.when(hour < 6, "night").when(hour < 12, "morning").when(hour < 18, "afternoon").otherwise("evening")
    return spark.range(1440).select(
        (hour * 100 + minute).alias("time_key"), hour.alias("hour"), minute.alias("minute"), part.alias("part_of_day")
    )


def pages(requests: DataFrame) -> DataFrame:
    """dim_page."""
    page = F.substring_index("request", "?", 1)
    found = requests.groupBy("datestr", "page_key").agg(F.first(page).alias("page"))
    section = F.regexp_extract("page", r"^(/[^/]*)(?:/|$)", 1)
    return found.withColumns(
        {
            "section": F.when(section != "", section).otherwise("/"),
            "is_static": F.rlike(F.lower("page"), F.lit(STATIC)).cast("int"),
        }
    )


def referrers(requests: DataFrame) -> DataFrame:
    """dim_referrer."""
    found = requests.groupBy("datestr", "referrer_key").agg(
        F.first("http_referer").alias("http_referer"), F.first("ref_host").alias("ref_host")
    )
    host, url = F.lower("ref_host"), F.replace("http_referer", F.lit('"'), F.lit(""))
    engine, words = F.lit(None).cast("string"), F.lit(None).cast("string")
    for name, pattern, parameter in ENGINES:
        is_it = F.rlike(host, F.lit(pattern))
        said = F.try_parse_url(url, F.lit("QUERY"), F.lit(parameter))
        engine, words = F.when(is_it, name).otherwise(engine), F.coalesce(F.when(is_it, said), words)
    return found.withColumns({"search_engine": engine, "search_words": _decoded(words)})


def _decoded(words: Column) -> Column:
    """Percent signs undone; null for what is no text, such as an old engine's GBK."""
    plain = F.nullif(F.trim(F.try_url_decode(words)), F.lit(""))
    return F.when(~F.contains(plain, F.lit("\ufffd")), plain)


def user_agents(requests: DataFrame) -> DataFrame:
    """dim_user_agent. Python sees only the distinct agents of a day."""
    found = requests.groupBy("datestr", "agent_key").agg(F.first("http_user_agent").alias("http_user_agent"))
    told = F.udf(describe_agent, "is_crawler int, browser string, os string, device string", useArrow=False)
    return found.withColumn("told", told("http_user_agent")).select("*", "told.*").drop("told")


def describe_agent(agent: str) -> tuple[int, str | None, str | None, str | None]:
    """Whether it is a crawler, feed reader or monitor (the list of `crawlerdetect`), and its `ua-parser` families."""
    from ua_parser import parse

    known = parse(agent)
    families = [part.family if part else None for part in (known.user_agent, known.os, known.device)]
    is_crawler = _detector().is_crawler(agent) or families[2] == "Spider"
    return int(is_crawler), families[0], families[1], families[2]


@cache
def _detector():  # type: ignore[no-untyped-def]
    from crawlerdetect import CrawlerDetect

    return CrawlerDetect()


def human(views: DataFrame, agents: DataFrame) -> DataFrame:
    """Add `is_human`: 0 for HEAD requests and for the crawlers among `agents`."""
    crawlers = agents.where("is_crawler = 1").select("datestr", "agent_key", F.lit(1).alias("crawls"))
    is_machine = (F.col("method") == "HEAD") | F.col("crawls").isNotNull()
    return (
        views.join(F.broadcast(crawlers), on=["datestr", "agent_key"], how="left")
        .withColumn("is_human", F.when(is_machine, 0).otherwise(1))
        .drop("crawls")
    )
