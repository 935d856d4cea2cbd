"""Which site a request is of, and whether that counts: `weblog.site_from` and `weblog.hosts`."""

from dataclasses import dataclass
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.weblog.formats.keys import SiteSource


@dataclass(frozen=True)
class SiteRules:
    """How requests belong to sites."""

    source: SiteSource = "none"
    """`host`: the host asked for; `referrer`: of a static file that of the page around it; `none`: all are one site."""
    hosts: tuple[str, ...] = ()
    """The sites whose requests count, as www.example.org or *.example.org; all of them when empty."""

    def includes(self, name: Column) -> Column:
        """Whether a site counts; one without a name only where all do."""
        if not self.hosts:
            return F.lit(True)
        patterns = [host.lower() for host in self.hosts]
        matches = [F.endswith(name, F.lit(p[1:])) if p.startswith("*.") else name == p for p in patterns]
        return F.coalesce(reduce(or_, matches), F.lit(False))


ONE_SITE = SiteRules()


def add_site(requests: DataFrame, rules: SiteRules) -> DataFrame:
    """Add `site`, null without a source, and make requests of other sites than the rules' hosts invalid.

    Args:
        requests: with `own_host`, as the line has it, `ref_host`, `is_static` and `valid`.
        rules: where the site comes from, and which sites count.
    """
    name: Column = F.lower("own_host")
    if rules.source == "referrer":
        name = F.when(F.col("is_static"), F.coalesce(F.lower("ref_host"), name)).otherwise(name)
    with_site = requests.withColumn("site", F.lit(None).cast("string") if rules.source == "none" else name)
    return with_site.withColumn("valid", F.when(rules.includes(name), F.col("valid")).otherwise("false"))
