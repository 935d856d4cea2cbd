-- Page views per hour and host of the referrer (W7).
select datestr, month, day, hour, ref_host, sum(pvs) as pvs
from ads_pv_referer_hourly
where datestr between :first and :last
group by datestr, month, day, hour, ref_host
order by datestr, hour, pvs desc, ref_host
