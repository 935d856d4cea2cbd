"""The declaration of a site: where its data lie and what their columns mean, in one Python file of frozen values."""

from conf.site.columns import (
    BUILT_IN_COLUMNS,
    Category,
    ColumnType,
    Number,
    Outcome,
    Tags,
    Text,
    Tokens,
    Vector,
    Weight,
    own_name,
)
from conf.site.declaration import SiteError
from conf.site.features import Dense, Sparse
from conf.site.loading import SITE_VARIABLE, choose_site, current_site, load_site
from conf.site.site import Action, ClickedBy, Cross, Impressions, Items, Label, Last, Rate, Site, Users
from conf.site.sources import Files, Query

__all__ = [
    "BUILT_IN_COLUMNS",
    "SITE_VARIABLE",
    "Action",
    "Category",
    "ClickedBy",
    "ColumnType",
    "Cross",
    "Dense",
    "Files",
    "Impressions",
    "Items",
    "Label",
    "Last",
    "Number",
    "Outcome",
    "Query",
    "Rate",
    "Site",
    "SiteError",
    "Sparse",
    "Tags",
    "Text",
    "Tokens",
    "Users",
    "Vector",
    "Weight",
    "choose_site",
    "current_site",
    "load_site",
    "own_name",
]
