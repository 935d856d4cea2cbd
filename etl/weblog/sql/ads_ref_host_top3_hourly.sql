-- The three referrer hosts with most page views in each hour, ties by name (W8).
with ranked as (
  select *, row_number() over (partition by datestr, month, day, hour order by pvs desc, ref_host) as rank
  from ads_pv_ref_host_hourly
  where datestr between :first and :last
)
select datestr, month, day, hour, ref_host, pvs, rank
from ranked
where rank <= 3
