"""Which database a name of the settings stands for, and what its errors mean."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import SecretStr

from conf import Config, Paths, UsageError, UserError
from conf.masking import masked_text, split_password
from etl.relational.settings import BUSINESS, BusinessSettings, RelationalSettings
from etl.session import SPARK_ERRORS

# PostgreSQL: text parameters take the type of their column, and batched inserts become one statement of many rows.
_DRIVER_PROPERTIES = {"postgresql": {"stringtype": "unspecified", "reWriteBatchedInserts": "true"}}
_MAX_MESSAGE = 400  # characters


@dataclass(frozen=True)
class Database:
    """A JDBC URL and the login for it."""

    url: str = field(repr=False)  # of some drivers with the password
    login: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        """The URL's sub-protocol, which names the SQL dialect: postgresql, derby, mariadb …"""
        parts = self.url.split(":")  # jdbc, kind and the driver's own part
        return parts[1] if len(parts) > 2 else "?"

    @property
    def is_embedded(self) -> bool:
        """Whether it is a Derby in a folder, which only one process at a time can open."""
        return self.kind == "derby" and not self.url.startswith("jdbc:derby://")

    @property
    def options(self) -> dict[str, str]:
        """Options for Spark's JDBC source, and, without `url`, properties for the driver."""
        driver_properties = _DRIVER_PROPERTIES.get(self.kind, {})
        return {"url": self.url, **self.login, **driver_properties}


def find_database(config: Config, name: str) -> Database:
    """The database that the settings call `name`.

    Args:
        config: `relational.databases` and `business.*`.
        name: a key of `relational.databases`, or `business`.

    Raises:
        UsageError: if there is no such name.
        UserError: if it is the business database, and that is neither set nor simulated.
    """
    databases = config.get(RelationalSettings).databases
    if name in databases:
        return _database(databases[name].url, databases[name].user, databases[name].password)
    if name != BUSINESS:
        raise UsageError(f"unknown database '{name}'; choose from {', '.join([BUSINESS, *sorted(databases)])}")
    settings, folder = config.get(BusinessSettings), config.get(Paths).business
    if settings.url is None and not folder.is_dir():
        raise UserError(
            f"no business database: set business.url, or make one with `millrace simulate` ({folder} is missing)"
        )
    return _database(settings.url or f"jdbc:derby:{folder}", settings.user, settings.password)


def _database(url: str, user: str | None, password: SecretStr | None) -> Database:
    # Left out when not set: the driver then takes the URL's, or its own defaults.
    url, login = split_password(url)
    if user:
        login["user"] = user
    if password is not None:
        login["password"] = password.get_secret_value()
    return Database(url, login)


@contextmanager
def explained(action: str) -> Iterator[None]:
    """Turn an error of Spark or of a JDBC driver into one line.

    Args:
        action: what failed, such as "can't read from URL".

    Raises:
        UserError: with the action and the driver's message, both without passwords.
    """
    try:
        yield
    except SPARK_ERRORS as error:
        raise UserError(masked_text(f"{action}: {root_message(error)}")) from None


def root_message(error: Exception) -> str:
    """The driver's own message, out of the layers of py4j, Spark and JDBC around it, at most 400 characters long."""
    text = str(error)
    # JDBC finds its driver by the URL: this is what it says when a jar is missing.
    if "No suitable driver" in text:
        return (
            "no JDBC driver for it: install one (PostgreSQL: `apt-get install libpostgresql-jdbc-java`) "
            "or name its jar in spark.jdbc_jars"
        )
    if match := re.search(r"NUMERIC_VALUE_OUT_OF_RANGE\S*\s+(.*?)\. SQLSTATE", text):
        return f"{match[1]}; read the column as another type (`types`)"
    # The innermost SQL exception comes last in a "Caused by" chain.
    sql_errors: list[str] = re.findall(r"(?:[\w$]+\.)+(?:[\w$]*(?:SQL|PSQL)\w*(?:Exception|Error)\w*): (.+)", text)
    first_line = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    return (sql_errors[-1] if sql_errors else first_line).strip()[:_MAX_MESSAGE]
