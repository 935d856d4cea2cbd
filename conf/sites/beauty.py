"""Amazon's Beauty reviews as sequential recommendation has them: `user item item …` a line, without times, 5-core."""

from conf.site import Action, Category, Files, Query, Site

# A row for each item of a line; its place in the line is its second, for the order is all that there is.
_REVIEWS = """
    select ids[0] as user, ids[place] as item, unix_timestamp(date '2014-07-01') + place as second
    from (select split(trim(line), ' +') as ids from lines) lateral view explode(sequence(1, size(ids) - 1)) as place
"""

SITE = Site(
    name="beauty",
    actions=[
        Action(
            "review",
            Query(
                _REVIEWS,
                files={"lines": Files("s3rec_Beauty.txt*", header=("line",), separator="tab", quote="none")},
                time_format="s",
            ),
            user="user",
            item="item",
            at="second",
        )
    ],
    user_ids=Category(buckets=32768, is_number=True),
    item_ids=Category(buckets=16384, is_number=True),
    has_counts=False,
)
