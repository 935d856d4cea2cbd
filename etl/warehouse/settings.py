"""Settings of the HiveServer2 endpoint. Apart from serve.py, for commands that read settings and never load Spark."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from conf import Settings


class ServeSettings(Settings):
    """Where the endpoint listens, and who may connect."""

    section: ClassVar[str] = "serve"

    host: str = "127.0.0.1"
    """Address to listen on. Any other than loopback needs `authentication`."""
    port: int = Field(default=10000, ge=0, le=65535)
    """0 takes a free one."""
    authentication: Literal["none", "ldap", "kerberos"] = "none"
    ldap_url: str | None = None
    """ldaps://directory.example.com"""
    ldap_user_pattern: str | None = None
    """Distinguished name of a user, with %s for the login name: uid=%s,ou=people,dc=example,dc=com"""
    principal: str | None = None
    """Kerberos principal of the service, as hive/_HOST@EXAMPLE.COM"""
    keytab: Path | None = None
    keystore: Path | None = None
    """Java key store with the certificate: the endpoint speaks TLS then. Its password goes into `spark.extra` of the
    home's `secrets.yaml`, as spark.hadoop.hive.server2.keystore.password."""
