-- Visitors first seen on the day: those without history before it (W9).
select datestr, remote_addr, visitor_id
from dim_visitor
where datestr between :first and :last and replace(substr(first_seen, 1, 10), '-', '') = datestr
