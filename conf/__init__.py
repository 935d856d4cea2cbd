"""Settings, places and run folders: what every package builds on. Imports nothing of Millrace."""

from conf.errors import UsageError, UserError
from conf.paths import Paths
from conf.settings import Config, Settings, load

__all__ = ["Config", "Paths", "Settings", "UsageError", "UserError", "load"]
