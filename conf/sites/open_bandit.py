"""Open Bandit, a fashion shop's impressions with their true propensities: the folder of a policy and a campaign.

Users have no ids: who has the same four features is one.
"""

from conf.site import Category, Files, Impressions, Items, Number, Query, Site

USER = ("user_feature_0", "user_feature_1", "user_feature_2", "user_feature_3")
_SHOWN = f"select *, substr(sha1(concat_ws(' ', {', '.join(USER)})), 1, 12) as user from shown"

SITE = Site(
    name="open-bandit",
    items=Items(
        Files("item_context.csv"),
        key="item_id",
        category="item_feature_1",
        columns={"item_feature_0": Number(), "item_feature_2": Category(), "item_feature_3": Category(buckets=128)},
    ),
    impressions=Impressions(
        Query(_SHOWN, files={"shown": Files("*.csv.gz")}),
        user="user",
        item="item_id",
        clicked="click",
        at="timestamp",
        position="position",
        propensity="propensity_score",
        columns={name: Category(buckets=128) for name in USER},
    ),
    item_ids=Category(buckets=256, is_number=True),
)
