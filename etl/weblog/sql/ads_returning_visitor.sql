-- Visitors who began more than one visit on the day (W9).
select datestr, visitor_id, max_by(remote_addr, concat(inTime, ' ', remote_addr)) as remote_addr, count(session) as visits
from ods_click_stream_visit
where datestr between :first and :last
group by datestr, visitor_id
having count(session) > 1
