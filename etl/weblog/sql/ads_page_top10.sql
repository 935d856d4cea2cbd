-- The ten URLs with most page views of the day, of each site where sites are told apart; ties by URL (W9).
with counted as (
  select datestr, site, request, count(*) as pvs
  from ods_click_stream_pageviews
  where datestr between :first and :last
  group by datestr, site, request
),
ranked as (
  select *, row_number() over (partition by datestr, site order by pvs desc, request) as rank
  from counted
)
select datestr, request, pvs, rank, site
from ranked
where rank <= 10
