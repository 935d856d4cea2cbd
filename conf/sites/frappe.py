"""Frappe's uses of apps with their context: the folder of frappe.csv and meta.csv. Rows have no time: one day."""

from conf.site import Action, Category, Cross, Files, Items, Site

CONTEXT = ("daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")

SITE = Site(
    name="frappe",
    items=Items(
        Files("meta.csv"),
        key="item",
        title="name",
        category="category",
        author="developer",
        columns={"price": Category(), "language": Category(), "downloads": Category(buckets=64)},
    ),
    actions=[
        Action(
            "use",
            Files("frappe.csv", day="2015-03-01", is_time_order=True),
            user="user",
            item="item",
            columns={name: Category(buckets=4096 if name == "city" else 256) for name in CONTEXT},
        )
    ],
    features=[Cross(("context_daytime", "category"), buckets=4096), Cross(("context_country", "category"))],
)
