"""Settings, paths, errors, output and run folders: what every package builds on. Imports nothing else of Millrace."""

from conf.errors import UsageError, UserError
from conf.paths import Paths, file_url, path_of_url
from conf.settings import Config, Settings, load

__all__ = ["Config", "Paths", "Settings", "UsageError", "UserError", "file_url", "load", "path_of_url"]
