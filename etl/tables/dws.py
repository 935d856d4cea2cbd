"""DWS: aggregates."""

from etl.table import InRange, NotNull, Table, columns

recall_candidate = Table(
    name="dws_recall_candidate",
    description="One row per user and item that recall proposes, for the lists served after the day",
    key=("user_id", "item_id"),
    columns=columns(
        ("user_id", "string", "for whom"),
        ("item_id", "string", "what"),
        ("channels", "string", "channels that proposed it, best first, joined by +"),
        ("score", "double", "merged score, larger is better"),
        ("rank", "int", "place among the user's candidates, from 1"),
    ),
    checks=(NotNull(("channels", "score")), InRange("rank", 1)),
)
