"""Settings of the HTTP server of recommendations; `serve` is the section of the warehouse's endpoint."""

import socket
from datetime import date
from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from conf import Settings, UserError
from conf.machine.network import is_loopback
from conf.settings import SettingsEntry


class ArmSettings(SettingsEntry):
    """One of `serving.arms`."""

    weight: float = Field(default=1.0, gt=0)
    """Share of the users, relative to the other arms' weights."""
    promoted: date | None = None
    """Day of the promotion whose models and lists the arm has; the newest one's when not given."""
    order: str | None = None
    """Score that orders its lists, as `recommend.order`."""


class ServingSettings(Settings):
    """Where the server listens, what it takes, and how long it may take."""

    section: ClassVar[str] = "serving"

    on: Literal["workers", "ray"] = "workers"
    """`workers`: processes of this machine. `ray`: replicas under Ray Serve, on the cluster of `ray.address` or a local
    one."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other than loopback needs `token`."""
    port: int = Field(default=8080, ge=0, le=65535)
    """0 takes a free one."""
    workers: int = Field(default=1, gt=0, le=64)
    """Processes that answer; on one machine they share one copy of the state."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    """CPUs that a worker books on a Ray cluster."""
    launch_timeout_s: float = Field(default=180.0, gt=0)
    """Seconds until all workers on a Ray cluster must answer: it may have no room for them."""
    token: SecretStr | None = None
    """What clients send as `Authorization: Bearer TOKEN`; /health/live and /health/ready need none."""
    budget_ms: float = Field(default=50.0, gt=0)
    """Time of a request from its arrival. What does not fit falls to a cheaper rung: fine, coarse, merged, hot."""
    max_waiting: int = Field(default=16, ge=0)
    """Requests of a worker that may wait for their turn; more are refused with 429."""
    max_body_bytes: int = Field(default=262_144, gt=0)
    """A larger body is refused with 413."""
    max_events: int = Field(default=1000, gt=0)
    """Events in one request."""
    read_s: float = Field(default=5.0, gt=0)
    """A client that has not sent its whole request after so many seconds is cut off."""
    max_connections: int = Field(default=2000, gt=0)
    """Open connections of a worker; more are closed at once."""
    recommend_length: int = Field(default=20, gt=0)
    """Items of a list when the request names no `n`."""
    exploration: float = Field(default=0.0, ge=0, le=1)
    """Share of lists in a random order of the ranked candidates, with the propensity of each item logged."""
    roll_s: float = Field(default=300.0, gt=0)
    """Age in seconds at which accepted events move on to the landing zone."""
    roll_bytes: int = Field(default=64 << 20, gt=0)
    """Or the size at which they do."""
    poll_s: float = Field(default=1.0, gt=0)
    """Seconds between two looks for a promotion or a rollback."""
    remembered_events: int = Field(default=1_000_000, gt=0)
    """Newest event ids that a worker recognises when they are sent again; older ones are dropped by `etl events`."""
    experiment: str | None = Field(default=None, min_length=1, max_length=100)
    """Name of the experiment whose `arms` are served side by side; answers and the log of served lists name the arm."""
    arms: dict[str, ArmSettings] = Field(default_factory=dict)
    """Name -> arm. A hash of the experiment's name and the user's says who is in which: always the same one."""
    log_served: bool = True
    """Write served lists with their features to the landing zone, kind `served`."""
    logged_items: int = Field(default=100, gt=0)
    """First items of a list that are logged."""
    redis: SecretStr | None = None
    """URL of a Redis server by which several machines' servers know each other's recent events; without it each knows
    its own."""
    redis_stream: str = Field(default="millrace:events", min_length=1)
    """Name of the stream there: another one for each site."""
    instance: str = Field(default_factory=socket.gethostname, pattern=r"^\w[\w.-]*$", max_length=255)
    """Name of this machine in the names of landed files."""


def check_exposure(settings: ServingSettings) -> None:
    """Refuse to listen for other machines without a token.

    Raises:
        UserError: `serving.host` is no loopback address and there is no token, or one that is easily guessed.
    """
    token = settings.token.get_secret_value() if settings.token else ""
    if settings.token and len(token) < 16:
        raise UserError("serving.token is shorter than 16 characters: `openssl rand -hex 16` makes one")
    if not token and not is_loopback(settings.host):
        raise UserError(
            f"serving.host {settings.host} lets others in: set MILLRACE__SERVING__TOKEN to a secret of 16 characters "
            "or more, or listen on 127.0.0.1"
        )
