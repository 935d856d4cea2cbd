"""Secrets in settings: taken as the text that they are, and shown by nothing."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from conf import Config, UserError, load
from conf.masking import MASK, is_secret_name, masked, masked_text, split_password
from conf.settings import SECRETS, environment_variable
from etl.relational.settings import BusinessSettings, RelationalSettings
from etl.settings import SparkSettings

PASSWORDS = (
    "12345678", "007", "yes", "No", "off", "abc: def", "@at", "#hash", "a #b", "&a b", "*star", "!bang it", "%per",
    "`tick", "null", "~", "1e5", "0x1F", "1_000", "12:30:45", "2026-13-01", "'single", '"double"', "it's", "${x}",
    "{{ y }}", "[x", "{a", "a}b", "- dash", "? ask", "| bar", "> more", "comma,ted", "back\\slash", " blanks ", "très",
)  # fmt: skip
KEY = "spark.hadoop.fs.s3a.secret.key"


def passwords_of(config: Config) -> list[str | None]:
    secrets = (config.get(BusinessSettings).password, config.get(RelationalSettings).databases["shop"].password)
    return [secret and secret.get_secret_value() for secret in secrets]


def settings_with(business: str, shop: str) -> str:
    return f"business:\n  password: {business}\nrelational: {{databases: {{shop: {{url: x, password: {shop}}}}}}}\n"


def load_file(folder: Path, text: str) -> Config:
    file = folder / "experiment.yaml"
    file.write_text(text)
    return load(experiment=file, environment={})


@pytest.mark.parametrize("text", PASSWORDS)
def test_a_password_in_the_environment_is_the_text_as_it_is(text: str) -> None:
    environment = {
        "MILLRACE__BUSINESS__PASSWORD": text,
        "MILLRACE__RELATIONAL__DATABASES__SHOP__URL": "jdbc:derby:x",
        "MILLRACE__RELATIONAL__DATABASES__SHOP__PASSWORD": text,
    }
    assert passwords_of(load(environment=environment)) == [text, text]
    again = load(environment=dict([environment_variable("business", "password", text)]))
    assert again.get(BusinessSettings).password == SecretStr(text)


@pytest.mark.parametrize("text", PASSWORDS)
def test_a_password_in_a_file_is_the_text_as_it_is_or_refused(text: str, tmp_path: Path) -> None:
    """YAML itself can't have each without quotes: such a one is never changed, and never shown."""
    quoted = "'" + text.replace("'", "''") + "'"
    assert passwords_of(load_file(tmp_path, settings_with(quoted, quoted))) == [text, text]
    plain = text.strip().strip('"')  # quotes around it are YAML's
    for business, shop in ((text, "x"), ("x", text)):
        outcome = passwords_or_refusal(tmp_path, settings_with(business, shop))
        # The sign at which YAML stopped may be in the message, no more of it.
        assert plain in outcome or ("experiment.yaml, line " in outcome[0] and text[:3] not in outcome[0])


def passwords_or_refusal(folder: Path, text: str) -> list[str]:
    try:
        return [password or "" for password in passwords_of(load_file(folder, text))]
    except UserError as error:
        return [str(error)]


@pytest.mark.parametrize("text", [p for p in PASSWORDS if p.isalnum() or p in ("~", "1_000", "12:30:45", "2026-13-01")])
def test_a_password_that_yaml_takes_for_a_number_needs_no_quotes(text: str, tmp_path: Path) -> None:
    assert passwords_of(load_file(tmp_path, settings_with(text, text))) == [text, text]


@pytest.mark.parametrize("text", PASSWORDS)
def test_a_secret_on_the_command_line_is_refused_with_the_way_to_give_it(text: str) -> None:
    shop = "jdbc:postgresql://h/shop?password="
    for override in (
        f"business.password={text}",
        f"relational.databases.shop.password={text}",
        f"business.pasword={text}",
        f"spark.extra.key={shop}{text}",
    ):
        path = override.partition("=")[0]
        with pytest.raises(UserError, match="a secret on a command line") as refusal:
            load(overrides=[override], environment={})
        assert f"set MILLRACE__{path.replace('.', '__').upper()}, or write it to secrets.yaml" in str(refusal.value)
        assert text not in str(refusal.value).replace(path, "")


def test_nothing_is_no_password(tmp_path: Path) -> None:
    assert load(environment={"MILLRACE__BUSINESS__PASSWORD": ""}).get(BusinessSettings).password is None
    assert passwords_of(load_file(tmp_path, settings_with("", ""))) == [None, None]
    assert environment_variable("business", "password", None) == ("MILLRACE__BUSINESS__PASSWORD", "")
    empty = load(environment={"MILLRACE__BUSINESS__PASSWORD": "", "MILLRACE__BUSINESS__USER": "me"})
    # Sent to a cluster, it would hide the password that is there.
    assert empty.without_secrets()[0].values["business"] == {"user": "me"}


@pytest.mark.parametrize("text", ["12345678", "1e5", "yes"])
def test_keys_of_spark_that_hold_secrets_take_text_as_well(text: str, tmp_path: Path) -> None:
    config = load_file(tmp_path, f"spark:\n  extra:\n    {KEY}: {text}\n")
    assert config.get(SparkSettings).extra == {KEY: text}
    config = load(environment={"MILLRACE__SPARK__EXTRA": f"{{{KEY}: {text}}}"})
    assert config.get(SparkSettings).extra == {KEY: text}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("business: {password: [geheim1]}", "setting business.password"),
        ("business: {password: {a: geheim1}}", "setting business.password"),
        ("business: {pasword: geheim1}", "unknown setting 'business.pasword'; allowed here: url, user, password"),
        ("business: {code: geheim1}", "unknown setting 'business.code'"),
        ("business: geheim1", "setting business: Input should be a valid dictionary"),
        ("relational: {databases: {a: {url: x, code: geheim1}}}", "unknown setting 'relational.databases.a.code'"),
        ("relational: {databases: {a: geheim1}}", "setting relational.databases.a"),
        ("metastore: {url: 'postgresql://me:geheim1@host/db'}", "setting metastore.url"),
        ("metastore: {url: 'postgresql://host/db?password=geheim1'}", "setting metastore.url"),
        ("paths: {warehouse_root: 's3a://key:geheim1@bucket/x'}", "setting paths.warehouse_root"),
        ("ray: {jobs: 'ftp://me:geheim1@head'}", "setting ray.jobs"),
        ("spark: {hadoop: {fs.s3a.secret.key: geheim1}}", "unknown setting 'spark.hadoop'"),
        ("spark: {extra: {spark.hadoop.fs.s3a.access.key: [geheim1]}}", "setting spark.extra"),
        ("serving: {token: [geheim1]}", "setting serving.token"),
        ("business: {password: *geheim1}", "line 1, column 22: not valid YAML: found undefined alias"),
        ("business: {password: !geheim1 x}", "put it in 'single quotes'"),
        ("business: {user: !geheim1 x}", "could not determine a constructor for the tag"),
        ("business: {password: x,geheim1}", "put it in 'single quotes'"),
    ],
)
def test_no_message_shows_what_may_be_a_secret(settings: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        load_file(tmp_path, settings)
    assert named in str(refusal.value)
    assert "geheim1" not in str(refusal.value)


def test_a_wrong_override_shows_no_secret() -> None:
    with pytest.raises(UserError, match=r"--set 'password': write it as section.key=value"):
        load(overrides=["password=geheim1"], environment={})


def test_the_file_of_secrets_is_read_from_the_home_when_it_is_private(tmp_path: Path) -> None:
    file, environment = tmp_path / SECRETS, {"MILLRACE_HOME": str(tmp_path)}
    file.write_text("business: {user: me, password: 007}\n")
    file.chmod(0o640)
    with pytest.raises(UserError, match=f"others may read it: chmod 600 {file}"):
        load(environment=environment)
    file.chmod(0o600)
    config = load(environment=environment)
    assert config.get(BusinessSettings).password == SecretStr("007")
    # Airflow's tasks and jobs on clusters read it themselves.
    assert "business" not in config.explicit
    config = load(environment={**environment, "MILLRACE__BUSINESS__PASSWORD": "another"})
    assert config.get(BusinessSettings).password == SecretStr("another")


SECRET_SETTINGS: dict[str, Any] = {
    "business.url": "jdbc:postgresql://host/db?user=me&password=geheim1&ssl=true",
    "business.password": "geheim2",
    "relational.databases": {
        "shop": {"url": "jdbc:sqlserver://h:1433;user=me;password={geheim3;x};encrypt=true", "password": "geheim4"},
        "old": {"url": "jdbc:oracle:thin:scott/geheim5@h:1521:x"},
    },
    "metastore.url": "jdbc:postgresql://me:geheim6@host/db",
    "metastore.password": "geheim7",
    "tracking.uri": "https://me:geheim8@host/mlflow",
    "serving.token": "geheim9-0123456789",
    "serving.redis": "rediss://me:geheimG@host:6379/0",
    "spark.extra": {
        "spark.hadoop.fs.s3a.access.key": "geheimA",
        "spark.hadoop.fs.s3a.secret.key": "geheimB",
        "spark.hadoop.fs.azure.account.key.me.blob.core.windows.net": "geheimC",
        "spark.hadoop.javax.jdo.option.ConnectionPassword": "geheimD",
        "spark.hadoop.javax.jdo.option.ConnectionPasword": "geheimE",
        "spark.driver.extraJavaOptions": "-Djavax.net.ssl.trustStorePassword=geheimF -Xss4m",
        "spark.executor.memory": "4g",
    },
}


def test_secrets_are_masked_in_what_is_saved() -> None:
    config = load(environment={}).with_values(SECRET_SETTINGS)
    saved = yaml.safe_dump(config.resolved())
    assert "geheim" not in saved
    assert config.resolved()["spark"]["extra"]["spark.executor.memory"] == "4g"
    assert config.resolved()["business"]["url"] == f"jdbc:postgresql://host/db?user=me&password={MASK}&ssl=true"
    business = config.get(BusinessSettings).password
    assert business is not None
    assert business.get_secret_value() == "geheim2"


def test_settings_for_others_have_no_secrets_and_name_what_is_left_out() -> None:
    public, omitted = load(environment={}).with_values(SECRET_SETTINGS | {"business.user": "me"}).without_secrets()
    assert "geheim" not in str(public.values) + str(public.explicit)
    assert public.values["business"] == {"user": "me"}
    assert public.values["spark"]["extra"] == {"spark.executor.memory": "4g"}
    assert {
        "business.url",
        "business.password",
        "relational.databases.shop.password",
        "serving.token",
        "serving.redis",
    } < set(omitted)
    assert f"spark.extra.{KEY}" in omitted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("can't reach https://me:p@ss@host/x?mail=a@b: 403", f"can't reach https://me:{MASK}@host/x?mail=a@b: 403"),
        ("https://me:p/w@host/x", f"https://me:{MASK}@host/x"),
        ("http://host:80/x?mail=a@b and //h1:5432,h2:5433/db", "http://host:80/x?mail=a@b and //h1:5432,h2:5433/db"),
        ("from jdbc:postgresql://h/db?password=a;b&ssl=true: no", f"from jdbc:postgresql://h/db?password={MASK}&ssl=true: no"),
        ("Login failed; password='a b', user=me", f"Login failed; password={MASK}, user=me"),
        ("{'user': 'me', 'password': 'x'}", f"{{'user': 'me', 'password': {MASK}}}"),
        ("Authorization: Bearer 0123456789abcdef", f"Authorization: Bearer {MASK}"),
        ("jdbc:derby:;databaseName=/home/x;create=true", "jdbc:derby:;databaseName=/home/x;create=true"),
        ("setting business.password: Input should be a valid string", "setting business.password: Input should be a valid string"),
    ],
)  # fmt: skip
def test_a_line_is_shown_without_the_passwords_of_urls(text: str, shown: str) -> None:
    assert masked_text(text) == shown


def test_a_line_is_shown_without_the_secrets_of_this_process() -> None:
    load(environment={"MILLRACE__BUSINESS__PASSWORD": "zebra 4711/x"})
    # No words between: any of them may be the password of another test of this process.
    assert masked_text("zebra 4711/x; zebra+4711%2Fx; zebra%204711%2Fx") == f"{MASK}; zebra+4711%2Fx; {MASK}"
    assert masked_text("no part of zebras") == "no part of zebras"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("fs.s3a.access.key", True),
        ("aws_secret_access_key", True),
        ("fs.azure.account.key.x.blob.core.windows.net", True),
        ("ConnectionPassword", True),
        ("passwrod", True),
        ("psswd", True),
        ("apiKey", True),
        ("oauthToken", True),
        ("key", False),
        ("visitor_key", False),
        ("max_tokens", False),
        ("passed", False),
        ("fs.s3a.aws.credentials.provider", False),
        ("spark.kubernetes.driver.secretKeyRef.MILLRACE__METASTORE__PASSWORD", False),
        ("hive.server2.keystore.path", False),
    ],
)
def test_names_say_what_is_secret(name: str, secret: bool) -> None:
    assert is_secret_name(name) == secret
    assert (masked({name: "x"})[name] == MASK) == secret


def test_a_login_is_taken_out_of_the_url_for_the_driver() -> None:
    url = "jdbc:postgresql://host:5432/db"
    login = {"user": "me", "password": "a+b c"}
    assert split_password(f"{url}?user=me&password=a%2Bb+c&ssl=true") == (f"{url}?ssl=true", login)
    assert split_password(f"{url}?ssl=true&password=a%2Bb+c&user=me") == (f"{url}?ssl=true", login)
    assert split_password("jdbc:postgresql://me:a+b%20c@host:5432/db") == (url, login)
    assert split_password(f"{url}?user=me") == (f"{url}?user=me", {})
