"""Where the metastore is."""

from typing import ClassVar

from pydantic import Field, SecretStr

from conf import Settings


class MetastoreSettings(Settings):
    """Where the definitions of the tables are stored."""

    section: ClassVar[str] = "metastore"

    url: str | None = Field(default=None, pattern="^jdbc:postgresql:")
    """JDBC URL of a PostgreSQL database, for several processes at once; the embedded Derby when not given. Create its
    schema once by `millrace warehouse init`."""
    user: str | None = None
    password: SecretStr | None = None
    lock_wait_s: float = Field(default=600.0, ge=0)
    """Seconds to wait for another Millrace process to leave the embedded metastore (it serves one at a time)."""

    @property
    def is_embedded(self) -> bool:
        """Whether it is the Derby database under the home, which one process at a time can open."""
        return self.url is None
