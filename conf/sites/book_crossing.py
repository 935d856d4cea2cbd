"""Book-Crossing as published: BX-Book-Ratings.csv and BX-Users.csv, packed or not. Rows have no time: one day."""

from conf.site import Action, Files, Label, Site, Users

SITE = Site(
    name="book-crossing",
    users=Users(Files("BX-Users.csv*", encoding="latin-1"), key="User-ID", age="Age", city="Location"),
    actions=[
        Action(
            "rating",
            Files("BX-Book-Ratings.csv*", encoding="latin-1", day="2004-09-01"),
            user="User-ID",
            item="ISBN",
            value="Book-Rating",
        )
    ],
    label=Label("rating", at_least=7),
    has_counts=False,
)
