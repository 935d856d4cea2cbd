from pathlib import Path

import pytest
from pydantic import SecretStr

from conf import UsageError, load
from conf.settings import SECRETS
from dags.submit import cluster_options, error_among, run, settings_to_send
from etl.relational.settings import RelationalSettings
from etl.settings import SparkSettings


def test_the_error_of_a_submitted_command_is_its_own_line_whatever_is_logged_after_it() -> None:
    log = ["starting Spark on spark://h:7077", "millrace: no rows for 2026-01-07: load more days", "INFO ShutdownHook"]
    assert error_among(log) == "no rows for 2026-01-07: load more days"
    assert error_among(["Killed"]) == "Killed"
    assert error_among([]) == ""


def test_a_job_description_has_no_secret_and_the_log_says_how_to_give_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / SECRETS).write_text("relational: {databases: {shop: {password: geheim1}}}\n")
    (tmp_path / SECRETS).chmod(0o600)
    environment = {
        "MILLRACE_HOME": str(tmp_path),
        "MILLRACE__BUSINESS__PASSWORD": "geheim2",
        "MILLRACE__RELATIONAL__DATABASES": '{shop: {url: "jdbc:derby:x"}, old: {url: x, password: geheim3}}',
        "MILLRACE__TRACKING__URI": "https://me:geheim4@host",
        "MILLRACE__SPARK__EXTRA": '{"spark.hadoop.fs.s3a.secret.key": "geheim5", "spark.executor.memory": "4g"}',
    }
    sent = settings_to_send(load(environment=environment))
    assert "geheim" not in str(sent)
    assert "geheim" not in caplog.text
    assert "MILLRACE__TRACKING__URI" not in sent
    # In the home the job reads what the file has; the other ones it lacks.
    there = load(environment=sent)
    shop = there.get(RelationalSettings).databases["shop"]
    assert shop.url == "jdbc:derby:x"
    assert shop.password == SecretStr("geheim1")
    assert there.get(SparkSettings).extra == {"spark.executor.memory": "4g"}
    assert "write it to secrets.yaml in the home (chmod 600)" in caplog.text
    assert "MILLRACE__BUSINESS__PASSWORD" in caplog.text
    assert "SHOP__PASSWORD" not in caplog.text


def test_a_command_with_a_secret_is_not_submitted(tmp_path: Path) -> None:
    config = load(environment={"MILLRACE_HOME": str(tmp_path), "MILLRACE__BUSINESS__PASSWORD": "geheim1"})
    for word in ("geheim1", "jdbc:postgresql://host/db?password=geheim2"):
        with pytest.raises(UsageError, match="has a secret in it, and everybody can read") as refusal:
            run(config, ["sql", word], None)
        assert "geheim" not in str(refusal.value)


def test_a_driver_in_the_cluster_gets_references_to_secrets_and_no_secret(tmp_path: Path) -> None:
    reference = "spark.kubernetes.driver.secretKeyRef.MILLRACE__METASTORE__PASSWORD"
    extra = {reference: "millrace:password", "spark.hadoop.fs.s3a.secret.key": "geheim1", "spark.executor.memory": "4g"}
    environment = {"MILLRACE_HOME": str(tmp_path), "MILLRACE__BUSINESS__PASSWORD": "geheim2"}
    config = load(environment=environment).with_values(
        {"spark.master": "yarn", "spark.extra": extra, "business.url": "jdbc:postgresql://me:geheim3@host/db"}
    )
    options = cluster_options(config)
    assert "geheim" not in str(options)
    assert options[reference] == "millrace:password"
    for prefix in ("spark.yarn.appMasterEnv", "spark.kubernetes.driverEnv"):
        assert options[f"{prefix}.MILLRACE_HOME"] == str(tmp_path)
        assert reference in options[f"{prefix}.MILLRACE__SPARK__EXTRA"]
        assert f"{prefix}.MILLRACE__BUSINESS__URL" not in options
