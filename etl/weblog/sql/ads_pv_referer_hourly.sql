-- Page views per hour and referring URL (W7).
select
  datestr,
  substr(time_local, 6, 2) as month,
  substr(time_local, 9, 2) as day,
  substr(time_local, 12, 2) as hour,
  http_referer,
  ref_host,
  count(*) as pvs
from ods_click_stream_pageviews
where datestr between :first and :last and ref_host is not null
group by 1, 2, 3, 4, 5, 6
