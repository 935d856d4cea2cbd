"""Last.fm's listening counts (HetRec 2011): user_artists.dat and artists.dat, packed or not. One day."""

from conf.site import Action, Files, Items, Site, Text

SITE = Site(
    name="lastfm",
    items=Items(Files("artists.dat*"), key="id", title="name", columns={"url": Text(), "pictureURL": Text()}),
    actions=[
        Action("play", Files("user_artists.dat*", day="2011-05-01"), user="userID", item="artistID", value="weight")
    ],
    has_counts=False,
)
