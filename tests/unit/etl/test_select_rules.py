"""Which statements leave Spark, and what becomes of them; that both engines agree is in integration/warehouse/test_sql_engines."""

import pytest

from etl.tables import ALL
from etl.warehouse.select_rules import OnlySparkError, translate


@pytest.mark.parametrize(
    ("statement", "columns"),
    [
        ("select dt, ctr from ads_ctr_daily order by dt", ("dt", "ctr")),
        ("SELECT DT, Ctr AS Rate FROM Ads_Ctr_Daily t WHERE t.clicks > 0.5", ("DT", "Rate")),
        ("select * from ads_ctr_daily", ("impressions", "clicks", "ctr", "users", "dt")),
        ("select count(*), max(Ctr), count(distinct dt), sum(clicks) from ads_ctr_daily",
         ("count(1)", "max(Ctr)", "count(DISTINCT dt)", "sum(clicks)")),
        ("with best as (select model, max(value) v from ads_model_metric group by model) "
         "select b.model, b.v from best b left join dim_model m on m.model = b.model", ("model", "v")),
    ],
)  # fmt: skip
def test_a_select_has_spark_s_names(statement: str, columns: tuple[str, ...]) -> None:
    assert translate(statement, ALL).columns == columns


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("drop table ads_ctr_daily", "no select"),
        ("insert into ads_ctr_daily select * from ads_ctr_daily", "no select"),
        ("describe formatted ads_ctr_daily", "no select"),
        ("select 1", "no table"),
        ("select a from one_of_the_user_s_own", "table one_of_the_user_s_own"),
        ("select ctr from other.ads_ctr_daily", "table with db"),
        ("select round(ctr, 2) r from ads_ctr_daily", "round"),
        ("select cast(ctr as int) r from ads_ctr_daily", "cast"),
        ("select dt from ads_ctr_daily where dt = 20260101", "`dt` = 20260101"),
        ("select dt from ads_ctr_daily where clicks = '3'", "types of"),
        ("select clicks * 0.5 x from ads_ctr_daily", "types of 0.5"),
        ("select sum(0.5) x from ads_ctr_daily", "types of 0.5"),
        ("select clicks % 2 x from ads_ctr_daily", "mod"),
        ("select dt + 1 x from ads_ctr_daily", "types of"),
        ("select sum(dt) from ads_ctr_daily", "types of"),
        ("select dt from ads_ctr_daily where clicks", "types of"),
        ("select dt from ads_ctr_daily where not clicks", "types of"),
        ("select dt from ads_ctr_daily where dt like 'a\\\\%'", "a pattern with escapes"),
        ("select clicks + 1 from ads_ctr_daily", "a column without a name"),
        ("select shown_at from dwd_impression", "shown_at"),
        ("select * from dwd_impression", "columns of dwd_impression that differ"),
        ("select count(distinct clicks, ctr) n from ads_ctr_daily", "distinct combinations"),
        ("select coalesce(dt, 0) x from ads_ctr_daily", "types of"),
        ("select case when clicks > 1 then 'a' else 0 end x from ads_ctr_daily", "types of"),
        ("select dt, count(*) n from ads_ctr_daily group by rollup(dt)", "roll"),
        ("select dt from ads_ctr_daily union all select dt from ads_recall_daily", "a union"),
        ("select t.x from (select * from ads_ctr_daily) t", "x"),
        ("select dt from ads_ctr_daily a natural join ads_recall_daily b", "join with method"),
        ("select dt from ads_ctr_daily tablesample (10 percent)", "table with sample"),
        ("select rand() x from ads_ctr_daily", "rand"),
        ("select read_text('/etc/passwd') x from ads_ctr_daily", "anonymous"),
        ("select x from read_text('/etc/passwd')", "read_text"),
        ("select dt from ads_ctr_daily where", ""),
        ("select dt from ads_ctr_daily; drop table ads_ctr_daily", ""),
    ],
)  # fmt: skip
def test_what_may_differ_is_spark_s(statement: str, reason: str) -> None:
    with pytest.raises(OnlySparkError) as refusal:
        translate(statement, ALL)
    assert reason.lower() in str(refusal.value).lower()


def test_conditions_on_the_partition_column_choose_the_folders_that_are_opened() -> None:
    where = "dt >= '2026-01-02' and clicks > 3 and (dt < '2026-02-01' or dt = '2026-03-01')"
    pruning = translate(f"select ctr from ads_ctr_daily t where {where}", ALL).pruning["ads_ctr_daily"]
    assert "clicks" not in pruning
    assert pruning.count("dt") == 3
    for statement in (
        "select ctr from ads_ctr_daily where dt = '2026-01-02' or clicks > 3",
        "select x.d from (select max(dt) dt, max(dt) d from ads_ctr_daily) x where x.dt = '2026-01-02'",
        "select a.dt from ads_ctr_daily a join ads_recall_daily b on a.dt = b.dt where a.dt = '2026-01-02'",
        "select dt from ads_ctr_daily",
    ):
        assert translate(statement, ALL).pruning == {}
