"""MovieLens 100k in atomic files: the folder of ml-100k.inter, ml-100k.item and ml-100k.user."""

from conf.site import Action, Category, Cross, Files, Items, Label, Site, Users

SITE = Site(
    name="movielens-100k",
    items=Items(
        Files("ml-100k.item"), key="item_id", title="movie_title", category="class", release_year="release_year"
    ),
    users=Users(
        Files("ml-100k.user"),
        key="user_id",
        gender="gender",
        age="age",
        columns={"occupation": Category(buckets=64), "zip_code": Category(buckets=4096)},
    ),
    actions=[
        Action("rating", Files("ml-100k.inter"), user="user_id", item="item_id", at="timestamp", value="rating"),
    ],
    label=Label("rating", at_least=4),
    features=[Cross(("user_occupation", "category"), buckets=4096)],
)
