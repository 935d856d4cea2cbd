"""What each stage will do with a site, as far as its declaration, a sample and the settings say."""

from collections import Counter
from collections.abc import Sequence

from conf import Config
from conf.site import Impressions, Site, Sparse, Text
from conf.site.checks import own_columns
from conf.site.columns import FeatureType
from features.catalog import built_in_features, site_features
from features.check.label_checks import Positives
from features.check.part_sample import PartSample
from features.item_lists import item_lists
from features.own_columns import OwnColumns
from features.settings import FeatureSettings


def stage_lines(config: Config, site: Site, samples: Sequence[PartSample], positives: Sequence[Positives]) -> list[str]:
    """One line for the ingest, the training set, and the lists."""
    return [_ingest(samples), _features(site), _examples(config, site, positives), _recall(site)]


def _ingest(samples: Sequence[PartSample]) -> str:
    tables = {"Items": "dim_item", "Users": "dim_user", "Action": "dwd_interaction", "Impressions": "dwd_impression"}
    rows = Counter[str]()
    sampled = {tables[type(sample.part).__name__] for sample in samples if not sample.is_whole}
    for sample in samples:
        rows[tables[type(sample.part).__name__]] += sample.num_rows
    about = {table: f"about {count:,}" if table in sampled else f"{count:,}" for table, count in rows.items()}
    loads = ", ".join(f"{count} rows to {table}" for table, count in about.items())
    missing = [table for table in ("dim_item", "dim_user") if table not in rows]
    rest = f"; only ids of what happened to {' and '.join(missing)}, without attributes" if missing else ""
    return f"ingest: {loads}{rest}"


def _features(site: Site) -> str:
    own = list(site_features(site))
    sparse = [one for one in (*built_in_features(site), *own) if isinstance(one, Sparse)]
    lists = list(item_lists(site, sparse))
    tables_only = [
        name
        for name, kind in own_columns(site).items()
        if isinstance(kind, Text) or (isinstance(kind, FeatureType) and not kind.is_feature)
    ]
    text = f"features: {len(built_in_features(site))} built-in + {len(own)} own"
    if lists:
        text += f" + {len(lists)} lists, for deep models: {', '.join(one.name for one in lists)}"
    if not site.has_counts:
        text += ", none that counts earlier days (has_counts=False)"
    return text + (f"; no feature: {', '.join(tables_only)}" if tables_only else "")


def _examples(config: Config, site: Site, positives: Sequence[Positives]) -> str:
    settings = config.get(FeatureSettings)
    shown = [one for one in positives if isinstance(one.sample.part, Impressions)]
    if site.impressions:
        outcomes = OwnColumns.of_site(site).outcomes
        more = f"; further labels: {', '.join(outcomes)}" if outcomes else ""
        clicked = f", {_share(shown):.1%} of them clicked" if shown else ""
        return f"training set: impressions as they are{clicked}; actions give no rows{more}"
    return (
        f"training set: no impressions: {_share(positives):.1%} of the rows are positives, with up to "
        f"{settings.negatives} sampled items each as negatives (features.negatives)"
    )


def _share(positives: Sequence[Positives]) -> float:
    """Share of positives of several parts, of which the samples may be smaller or larger parts."""
    num_rows = sum(one.sample.num_rows for one in positives)
    return sum(one.share * one.sample.num_rows for one in positives) / max(num_rows, 1)


def _recall(site: Site) -> str:
    """Which columns of the items channels can read beside what users chose."""
    roles = [name for name in ("category", "title", "author") if site.items is not None and getattr(site.items, name)]
    read = f"what users chose and the items' {', '.join(roles)}" if roles else "what users chose; items have no text"
    return f"recall: channels read {read}; which, and how many of each: recall.quota"
