"""docs/your-own-data.md names every class and option of a declaration with its default, and none that is not there."""

import dataclasses
import re

import pytest
from support import ROOT

import conf.site
from conf.site import (
    Action,
    Category,
    ClickedBy,
    Cross,
    Dense,
    Files,
    Impressions,
    Items,
    Label,
    Last,
    Number,
    Outcome,
    Query,
    Rate,
    Site,
    Sparse,
    Tags,
    Text,
    Tokens,
    Users,
    Vector,
    Weight,
)

CLASSES = (
    Site,
    Items,
    Users,
    Action,
    Impressions,
    ClickedBy,
    Files,
    Query,
    Label,
    Number,
    Category,
    Tags,
    Tokens,
    Vector,
    Text,
    Outcome,
    Weight,
    Cross,
    Rate,
    Last,
    Sparse,
    Dense,
)
GUIDE = (ROOT / "docs/your-own-data.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| `(\w+)` \|(.*?)\| .+ \|$", GUIDE, re.MULTILINE)


def options(cls: type) -> dict[str, object]:
    """Options of a class -> their defaults; dataclasses.MISSING for those that must be given."""
    fields = cls.__pydantic_fields__  # type: ignore[attr-defined]
    return {name: dataclasses.MISSING if field.is_required() else field.default for name, field in fields.items()}


def test_the_classes_are_all_that_a_declaration_can_use() -> None:
    offered = {name for name in conf.site.__all__ if isinstance(getattr(conf.site, name), type)}
    assert offered - {"SiteError"} == {cls.__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_option_is_in_the_guide(cls: type) -> None:
    assert [option for name, option, _ in ROWS if name == cls.__name__] == list(options(cls))


@pytest.mark.parametrize("cls", CLASSES)
def test_defaults_are_those_of_the_code(cls: type) -> None:
    documented = {option: default.strip(" `") for name, option, default in ROWS if name == cls.__name__}
    for option, default in options(cls).items():
        if default is dataclasses.MISSING:
            assert documented[option] == ""
        elif isinstance(default, bool | int | str) and default != "|":
            assert documented[option] == str(default)
        else:
            assert documented[option] != ""
