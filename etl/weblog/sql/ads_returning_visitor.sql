-- Visitors who began more than one visit on the day (W9).
select datestr, remote_addr, count(session) as visits
from ods_click_stream_visit
where datestr between :first and :last
group by datestr, remote_addr
having count(session) > 1
