-- Page views per hour (W7).
select
  datestr,
  substr(time_local, 6, 2) as month,
  substr(time_local, 9, 2) as day,
  substr(time_local, 12, 2) as hour,
  count(*) as pvs,
  sum(is_human) as pvs_human
from ods_click_stream_pageviews
where datestr between :first and :last
group by 1, 2, 3, 4
