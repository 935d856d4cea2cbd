"""Alerts for a failed task or a late day: an error in Airflow's log, and a message to a webhook.

A JSON object with `text`, as Slack, Mattermost and Teams take it, is posted to `MILLRACE_ALERT_URL`.
"""

import http.client
import json
import logging
import os
import urllib.request
from typing import Any

log = logging.getLogger(__name__)

URL = "MILLRACE_ALERT_URL"


def task_failed(context: Any) -> None:
    """Airflow's `on_failure_callback`: called when a task has no retry left."""
    task = context["ti"]
    error_lines = str(context.get("exception") or "").splitlines()
    send(f"{task.dag_id}, run {task.run_id}: {task.task_id} failed after {task.try_number} tries. {error_lines[:1]}")


async def day_late(context: Any = None, dag: str = "", hours: int = 0, **_: Any) -> None:
    """Airflow's deadline callback: its triggerer calls it when a run is not done in time."""
    # The triggerer hands the run over as JSON; called within a task it is Airflow's object.
    run = (context or {}).get("dag_run") or {}
    name = run.get("dag_run_id") or run.get("run_id") or "" if isinstance(run, dict) else getattr(run, "run_id", "")
    send(f"{dag}, run {name}: not done {hours} hours after it was due")


def send(text: str) -> None:
    """Log `text` as an error and post it; a webhook that fails is logged and stops nothing."""
    log.error("ALERT %s", text)
    url = os.environ.get(URL)
    if not url:
        return
    data, headers = json.dumps({"text": text}).encode(), {"Content-Type": "application/json"}
    try:
        urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10).close()
    except OSError as error:  # URLError and timeouts are such, too
        log.error("the alert could not be posted: %s", error)
    except (ValueError, http.client.HTTPException):  # whose text has the address, a secret of most webhooks
        log.error("the alert could not be posted: %s is no address", URL)
