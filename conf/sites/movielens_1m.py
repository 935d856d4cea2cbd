"""MovieLens 1M as published: ratings.dat, movies.dat and users.dat."""

from conf.site import Action, Category, Cross, Files, Items, Label, Site, Users

SITE = Site(
    name="movielens-1m",
    items=Items(
        Files("movies.dat", separator="::", header=("movie", "title", "genres"), encoding="latin-1"),
        key="movie",
        title="title",
        category="genres",
    ),
    users=Users(
        Files("users.dat", separator="::", header=("user", "gender", "age", "occupation", "zip")),
        key="user",
        gender="gender",
        age="age",
        columns={"occupation": Category(buckets=256), "zip": Category(buckets=32768)},
    ),
    actions=[
        Action(
            "rating",
            Files("ratings.dat", separator="::", header=("user", "movie", "rating", "at")),
            user="user",
            item="movie",
            at="at",
            value="rating",
        ),
    ],
    label=Label("rating", at_least=4),
    features=[Cross(("user_occupation", "category"), buckets=8192)],
)
