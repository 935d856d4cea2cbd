-- Conversion against the first step and against the step before (W10), by self-joins.
with steps as (
  select
    *,
    regexp_extract(step, '^(.*?)[.]?step[0-9]+$', 1) as funnel,
    cast(regexp_extract(step, 'step([0-9]+)$', 1) as int) as number
  from dw_oute_nums
  where datestr between :first and :last
)
select
  this.datestr,
  this.step,
  this.numbs,
  this.numbs / nullif(first.numbs, 0) as absolute_rate,
  this.numbs / nullif(before.numbs, 0) as relative_rate
from steps as this
join steps as first
  on this.datestr = first.datestr and this.funnel = first.funnel and first.number = 1
join steps as before
  on this.datestr = before.datestr and this.funnel = before.funnel and before.number = greatest(this.number - 1, 1)
