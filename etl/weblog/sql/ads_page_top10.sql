-- The ten URLs with most page views of the day, ties by URL (W9).
with counted as (
  select datestr, request, count(*) as pvs
  from ods_click_stream_pageviews
  where datestr between :first and :last
  group by datestr, request
),
ranked as (
  select *, row_number() over (partition by datestr order by pvs desc, request) as rank
  from counted
)
select datestr, request, pvs, rank
from ranked
where rank <= 10
