-- Visitors and visits of the day (W9).
with viewed as (
  select datestr, count(*) as pvs, count(distinct visitor_id) as visitors
  from ods_click_stream_pageviews
  where datestr between :first and :last
  group by datestr
),
seen_first as (
  select datestr, count(*) as new_visitors
  from ads_new_visitor
  where datestr between :first and :last
  group by datestr
),
visited as (
  select datestr, count(session) as visits, count(distinct visitor_id) as beginners
  from ods_click_stream_visit
  where datestr between :first and :last
  group by datestr
),
returned as (
  select datestr, count(*) as returning_visitors
  from ads_returning_visitor
  where datestr between :first and :last
  group by datestr
)
select
  datestr,
  pvs,
  visitors,
  pvs / visitors as pages_per_visitor,
  coalesce(new_visitors, 0) as new_visitors,
  coalesce(returning_visitors, 0) as returning_visitors,
  coalesce(visits, 0) as visits,
  visits / beginners as visits_per_visitor
from viewed
left join seen_first using (datestr)
left join visited using (datestr)
left join returned using (datestr)
