-- Page views per day, as the sum of its hours (W7).
select datestr, month, day, sum(pvs) as pvs, sum(pvs_human) as pvs_human
from ads_pv_hourly
where datestr between :first and :last
group by datestr, month, day
