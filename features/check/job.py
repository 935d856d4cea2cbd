"""Judge a site's declaration on a sample of its data: `millrace check`."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType

from conf import Config, UserError
from conf.site import Files, Items, Site, Users
from conf.site.checks import site_parts
from conf.site.declaration import place_of
from etl.ingest.settings import IngestSettings
from etl.ingest.sites.source_files import files_of
from etl.settings import SiteSettings
from features.check.column_checks import column_findings
from features.check.key_checks import key_findings, match_findings
from features.check.label_checks import Positives, label_findings, leak_findings, positives_of
from features.check.part_sample import Finding, PartSample, read_part
from features.check.report import label_lines, part_lines
from features.check.row_faults import refusal_findings
from features.check.stages import stage_lines
from features.check.time_checks import day_findings, time_findings
from features.settings import FeatureSettings

log = logging.getLogger(__name__)

# Keys are compared with all ids: items and users are read whole up to twice that.
_KEY_ROWS = 500_000


@dataclass(frozen=True)
class Checked:
    """What a check says."""

    lines: tuple[str, ...]
    """The report."""
    findings: tuple[Finding, ...]
    rows: int
    """Looked at."""

    @property
    def num_faults(self) -> int:
        """Findings that have to be put right."""
        return sum(finding.is_fault for finding in self.findings)


def run(
    config: Config,
    site: Site,
    folder: Path,
    max_rows: int,
    day: date | None = None,
    queried: Mapping[int, Sequence[Path]] = MappingProxyType({}),
) -> Checked:
    """Look at the data of a site, and collect all that is wrong.

    Args:
        config: `site.timezone`, `ingest.*` and `features.*`.
        site: the declaration.
        folder: that its patterns start from.
        max_rows: of actions and impressions, of each source; more are sampled from all over the files.
        day: that `{date}` in patterns stands for; None for every day there is.
        queried: files with the rows of queries, by number of the part.
    """
    samples: list[PartSample] = []
    findings: list[Finding] = []
    for number, part in enumerate(site_parts(site)):
        started = time.monotonic()
        num_rows = max(max_rows, _KEY_ROWS) if isinstance(part, Items | Users) else max_rows
        try:
            paths = files_of(part.source, folder, day) if isinstance(part.source, Files) else queried[number]
            samples.append(read_part(config, part, paths, num_rows))
        except UserError as error:
            findings.append(Finding(place_of(part), str(error)))
            continue
        sample = samples[-1]
        log.info("%s: %s rows read in %.1f s", sample.kind, f"{len(sample.frame):,}", time.monotonic() - started)
    happenings = [sample for sample in samples if not isinstance(sample.part, Items | Users)]
    positives = [one for sample in happenings if (one := positives_of(site, sample, happenings)) is not None]
    findings += _findings(config, site, samples, happenings, positives)
    lines = list(_report(config, site, samples, positives, findings))
    return Checked(tuple(lines), tuple(findings), sum(len(sample.frame) for sample in samples))


def _findings(
    config: Config,
    site: Site,
    samples: Sequence[PartSample],
    happenings: Sequence[PartSample],
    positives: Sequence[Positives],
) -> Iterator[Finding]:
    today = config.get(SiteSettings).today()
    for sample in samples:
        yield from column_findings(sample)
        yield from refusal_findings(sample, config.get(IngestSettings).max_refused)
        yield from key_findings(sample)
        if isinstance(sample.part, Items | Users):
            role = "item" if isinstance(sample.part, Items) else "user"
            yield from match_findings(sample, happenings, role)
    for sample in happenings:
        yield from time_findings(sample, today)
    window_days = config.get(FeatureSettings).window_days
    yield from day_findings(site, happenings, config.get(SiteSettings).zone, today, window_days)
    for one in positives:
        yield from leak_findings(one)
    yield from label_findings(site, positives)


def _report(
    config: Config,
    site: Site,
    samples: Sequence[PartSample],
    positives: Sequence[Positives],
    findings: Sequence[Finding],
) -> Iterator[str]:
    zone = config.get(SiteSettings).zone
    for sample in samples:
        yield from filter(None, part_lines(sample, zone))
        yield ""
    for one in positives:
        yield from label_lines(one, zone)
        yield ""
    if samples:
        yield from stage_lines(config, site, samples, positives)
        yield ""
    yield from (f"fault: {finding}" for finding in findings if finding.is_fault)
    yield from (f"warning: {finding}" for finding in findings if not finding.is_fault)
    num_faults = sum(finding.is_fault for finding in findings)
    yield f"{site.name}: faults: {num_faults}, warnings: {len(findings) - num_faults}"
