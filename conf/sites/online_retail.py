"""UCI Online Retail, a CSV of order lines a day (2010-12-01.csv …): returns have a negative quantity."""

from conf.site import Action, Category, Files, Label, Number, Site, Text

SITE = Site(
    name="online-retail",
    actions=[
        Action(
            "purchase",
            Files("{date}.csv"),
            user="CustomerID",
            item="StockCode",
            at="InvoiceDate",
            value="Quantity",
            columns={
                "InvoiceNo": Text(),
                "Description": Text(),
                "Country": Category(buckets=256),
                "UnitPrice": Number(transform="log1p", is_feature=False),  # of the item: it gives the choice away
            },
        )
    ],
    label=Label("purchase", at_least=1),
)
