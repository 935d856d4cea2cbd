"""Settings as pydantic models, and `load()`, which fills them from profile, experiment, environment and `--set`.

Each model stands beside the code that it configures; SECTIONS says where. Sources, each overriding those before it:
defaults in code, `conf/profiles/<profile>.yaml`, settings chosen by searches (`tuned.py`), an experiment file,
environment variables (`MILLRACE__SPARK__MASTER=…`), and `--set spark.master=…`. Secrets stand in the environment or in
`<home>/secrets.yaml`, never on a command line.
"""

import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from conf import tuned
from conf.errors import UserError
from conf.masking import has_secret, masked, masked_text, remember_secrets, without_secrets
from conf.yaml_text import parse_yaml

MAX_INT = 2**31 - 1  # of Java, SQL and most of what settings are handed to

ENV_PREFIX = "MILLRACE__"  # double underscores, because keys contain single ones
SECRETS = "secrets.yaml"  # in the home: sections with values, like an experiment's, of mode 0600

# section -> "module:class". By name, so that conf stays below the packages that own the classes.
SECTIONS = {
    "paths": "conf.paths:Paths",
    "spark": "etl.settings:SparkSettings",
    "site": "etl.settings:SiteSettings",
    "metastore": "etl.metastore.settings:MetastoreSettings",
    "serve": "etl.warehouse.settings:ServeSettings",
    "serving": "recsys.serve.settings:ServingSettings",
    "simulator": "etl.simulator.settings:SimulatorSettings",
    "weblog": "etl.weblog.settings:WeblogSettings",
    "events": "etl.events.settings:EventSettings",
    "ingest": "etl.ingest.settings:IngestSettings",
    "business": "etl.relational.settings:BusinessSettings",
    "relational": "etl.relational.settings:RelationalSettings",
    "collect": "etl.collect.settings:CollectSettings",
    "stream": "etl.streams.settings:StreamSettings",
    "features": "features.settings:FeatureSettings",
    "recall": "recsys.settings:RecallSettings",
    "coarse": "recsys.settings:CoarseSettings",
    "fm": "recsys.settings:FMSettings",
    "linear_variants": "recsys.settings:LinearVariantsSettings",
    "recommend": "recsys.settings:RecommendSettings",
    "answers": "recsys.answers.settings:AnswersSettings",
    "train": "training.settings:TrainSettings",
    "optimizer": "training.settings:OptimizerSettings",
    "schedule": "training.settings:ScheduleSettings",
    "loss": "training.settings:LossSettings",
    "augment": "training.settings:AugmentSettings",
    "transfer": "training.settings:TransferSettings",
    "net": "training.net_settings:NetSettings",
    "tracking": "training.settings:TrackingSettings",
    "ray": "training.settings:RaySettings",
    "tune": "tuning.settings:TuneSettings",
    "network": "conf.machine.network:NetworkSettings",
    "dags": "dags.local_airflow:DagsSettings",
}


class SettingsEntry(BaseModel):
    """Base of settings, and of what stands in lists and dicts of them.

    Frozen; an unknown key is an error, and so are numbers that no job can compute with: NaN, infinities, whole numbers
    beyond 32 bits, and yes and no, which pydantic would read as 1 and 0.
    """

    # use_attribute_docstrings makes the string under a field its description, so that it is written only once.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _check_numbers(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if (
                isinstance(value, bool)
                and name in cls.model_fields
                and not _takes_bool(cls.model_fields[name].annotation)
            ):
                raise ValueError(f"{name} = {str(value).lower()}: give a value, not yes or no")
        settings = handler(values)
        for name in cls.model_fields:
            value = getattr(settings, name)
            if isinstance(value, int) and abs(value) > MAX_INT:
                raise ValueError(f"{name} is beyond {MAX_INT}")
        return settings


class Settings(SettingsEntry):
    """Base of the models of sections."""

    section: ClassVar[str]


# `config.get(FMSettings)` has type FMSettings: keys are attributes that mypy checks, not texts.
S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Config:
    """The resolved values of all sections; a job asks for the section it needs by its model."""

    profile: str
    values: Mapping[str, Any] = field(repr=False)  # holds secrets
    explicit: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Those of `values` that an experiment file, the environment, the command line or a search set: what a job on
    another machine must be given, because it has the profile and the defaults itself."""

    def get(self, model: type[S]) -> S:
        """The settings of `model`'s section.

        Raises:
            UserError: a key is unknown or a value is not allowed; names the key, the value and what is allowed.
        """
        values = self.values.get(model.section, {})
        try:
            return model.model_validate(values)
        except ValidationError as error:
            raise UserError("; ".join(_explain(model, problem) for problem in error.errors())) from None

    def resolved(self) -> dict[str, Any]:
        """Every section with every value, defaults included and secrets masked, as saved with each run.

        Raises UserError as `get` does.
        """
        # mode="json": paths and dates as text that YAML can hold.
        dumps = {name: self.get(model_of(name)).model_dump(mode="json") for name in SECTIONS}
        return {name: masked(values, declared=_secret_names(model_of(name))) for name, values in dumps.items()}

    def without_secrets(self) -> tuple["Config", list[str]]:
        """These settings for others to read, on a cluster say, and the dotted names of secrets that it must be given.

        Those of `<home>/secrets.yaml` are left out, too, and not among the names: whoever has the home has the file.
        """
        explicit, omitted = _without_secrets(self.explicit)
        return Config(self.profile, _without_secrets(self.values)[0], explicit), omitted

    def with_values(self, overrides: Mapping[str, Any]) -> "Config":
        """A copy with dotted paths set, e.g. `{"fm.alpha": 0.1}`: how searches vary a run.

        Raises UserError for an unknown key or a value that is not allowed.
        """
        values, explicit = self.values, self.explicit
        for path, value in overrides.items():
            values, explicit = _merge(values, _nested(path, value)), _merge(explicit, _nested(path, value))
        return _validated(Config(self.profile, values, explicit))


def load(
    *,
    profile: str | None = None,
    experiment: Path | None = None,
    overrides: Iterable[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> Config:
    """Resolve the settings of a command.

    Args:
        profile: name of a file in conf/profiles; MILLRACE_PROFILE, or `local`, when not given.
        experiment: YAML file of sections with values.
        overrides: `section.key=value` texts as given to `--set`; the value is parsed as YAML, and is no secret.
        environment: variables, of which MILLRACE_HOME and MILLRACE__SECTION__KEY are read.

    Raises:
        UserError: a file, section, key or value is wrong; the message names it and what is allowed.
    """
    profile = profile or environment.get("MILLRACE_PROFILE") or "local"
    # Layers are merged key by key as plain dicts and validated once, at the end: an experiment may set one key of a
    # section, and a value that a later layer overrides need not be valid.
    values, explicit = _profile_values(profile), _read_yaml(experiment) if experiment else {}
    for layer in (*_from_environment(environment), *(_from_override(text) for text in overrides)):
        explicit = _merge(explicit, layer)
    # Tuned settings lie under the home, which the explicit values may move.
    home = _home(_merge(values, explicit))
    # All of them for every command: a day's models are trained side by side, each reads its own section. Sorted,
    # because the later of two files that set one option wins.
    tuned_files = sorted((home / tuned.FOLDER).glob("*.yaml"))
    for file in (*tuned_files, *_secrets_file(home)):
        values = _merge(values, _read_yaml(file))
    return _validated(Config(profile, _merge(values, explicit), explicit))


def environment_variable(section: str, key: str, value: Any) -> tuple[str, str]:
    """Name and text of the environment variable from which `load` reads this value again, on another machine say."""
    name = f"{ENV_PREFIX}{section}__{key}".upper()
    if _is_secret((section, key)) and (value is None or isinstance(value, str)):
        return name, value or ""  # as it is, see `_parse_value`
    return name, json.dumps(value, default=str)  # `load` parses YAML, and JSON is YAML


def _without_secrets(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    parts = {name: without_secrets(inner, name, _declared_secrets(name)) for name, inner in values.items()}
    return {name: part for name, (part, _) in parts.items()}, [key for _, keys in parts.values() for key in keys]


def _secrets_file(home: Path) -> list[Path]:
    """The file of secrets in the home, if there is one. Raises UserError when other users may read it."""
    file = home / SECRETS
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError):  # also a home that can't be, which validation refuses
        return []
    if stat.S_IMODE(mode) & 0o077:
        raise UserError(f"{file} holds secrets and others may read it: chmod 600 {file}")
    return [file]


def _home(values: Mapping[str, Any]) -> Path:
    """paths.home before validation: the values may still be anything that YAML can say."""
    paths = values.get("paths")
    home = paths.get("home") if isinstance(paths, Mapping) else None
    return Path(str(home or model_of("paths").model_fields["home"].default)).expanduser()


def _validated(config: Config) -> Config:
    """Return `config`. Raises UserError when one of its sections or values is wrong."""
    # First: whatever happens later, no line shows them.
    for name, values in config.values.items():
        remember_secrets(values, declared=_declared_secrets(name))
    for name in config.values:
        if name not in SECTIONS:
            raise UserError(f"unknown setting '{name}'; sections are {', '.join(SECTIONS)}")
        config.get(model_of(name))
    config.get(model_of("paths"))  # also where nobody set it: the current folder's name counts
    return config


def model_of(section: str) -> type[Settings]:
    """The model of a section of SECTIONS."""
    module, name = SECTIONS[section].split(":")
    model: type[Settings] = getattr(import_module(module), name)
    return model


def _takes_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(_takes_bool(part) for part in get_args(annotation))


def _explain(model: type[Settings], problem: Any) -> str:
    """One of pydantic's error records as a sentence in the words of the settings, without what may be a secret."""
    key = ".".join([model.section, *(str(part) for part in problem["loc"])])
    value, secrets = problem["input"], _secret_names(model)
    name = str(problem["loc"][-1]) if problem["loc"] else ""
    is_unknown = problem["type"] == "extra_forbidden"
    # Beside a password an unknown key may be a misspelt one, and a value in the place of a section the password itself.
    is_near = is_unknown or problem["type"].startswith(("model", "dict"))
    is_hidden = has_secret(value, name, secrets) or (bool(secrets) and is_near)
    if is_unknown:
        shown = "" if is_hidden else f" (= {value!r})"
        return f"unknown setting '{key}'{shown}; allowed here: {', '.join(model.model_fields)}"
    message = masked_text(problem["msg"].removeprefix("Value error, "))
    # What a validator of a whole entry says names the key itself; the entry may hold a secret.
    if is_hidden or isinstance(value, Mapping):
        return f"setting {key}: {message}"
    return f"setting {key} = {value!r}: {message}"


def _secret_names(annotation: Any) -> set[str]:
    """Names of the fields of a model, and of the models in its fields, that hold passwords and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        # By the annotation's text: a field may be SecretStr, SecretStr | None or hold it deeper.
        own = {name for name, field in fields if "SecretStr" in str(field.annotation)}
        return own.union(*(_secret_names(field.annotation) for _, field in fields))
    return set().union(*(_secret_names(part) for part in get_args(annotation)))


def _declared_secrets(section: str) -> set[str]:
    if section not in SECTIONS:  # a mistyped one, which is refused where all are checked
        return set()
    return _secret_names(model_of(section))


def _is_secret(path: Sequence[str]) -> bool:
    """Whether the value under a path of keys is secret as a whole: by its field, or by its name."""
    declared = _declared_secrets(path[0])
    return len(path) > 1 and any(has_secret("?", key, declared) for key in path[1:])


def _parse_value(path: str, text: str, where: str) -> Any:
    """A value of the environment or the command line: YAML, but a secret is the text as it is."""
    keys = tuple(path.split("."))
    if _is_secret(keys):
        return text or None
    return parse_yaml(text, where, lambda inner: _is_secret(keys + inner))


def _profile_values(profile: str) -> dict[str, Any]:
    # As package resources: profiles may lie in the zip that a cluster's processes load.
    folder = files("conf") / "profiles"
    names = sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))
    if profile not in names:
        raise UserError(f"unknown profile '{profile}'; choose from {', '.join(names)}")
    return _parse_sections(folder.joinpath(f"{profile}.yaml").read_text(encoding="utf-8"), f"profile {profile}")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}") from None
    return _parse_sections(text, str(path))


def _parse_sections(text: str, where: str) -> dict[str, Any]:
    values = parse_yaml(text, where, _is_secret) or {}
    if not isinstance(values, dict):
        raise UserError(f"{where} must hold sections with values")
    return values


def _from_environment(environment: Mapping[str, str]) -> Iterable[dict[str, Any]]:
    """MILLRACE_HOME, then every MILLRACE__SECTION__KEY sorted by name, each as a nested dict."""
    if environment.get("MILLRACE_HOME"):
        yield {"paths": {"home": environment["MILLRACE_HOME"]}}
    for name in sorted(environment):
        if name.startswith(ENV_PREFIX):
            path = name.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            yield _nested(path, _parse_value(path, environment[name], name))


def _from_override(text: str) -> dict[str, Any]:
    path, equals, text_of_value = text.partition("=")
    path = path.strip()
    if not equals or "." not in path:
        raise UserError(f"--set '{masked_text(path)}': write it as section.key=value")
    value = _parse_value(path, text_of_value, f"--set {path}")
    section, *keys = path.split(".")
    if has_secret(value, keys[-1], _declared_secrets(section)) or _is_secret((section, *keys)):
        # All users of the machine see the command line of a process, and it stays in the shell's history.
        variable = ENV_PREFIX + "__".join([section, *keys]).upper()
        raise UserError(
            f"--set {path}: a secret on a command line can be read by others; "
            f"set {variable}, or write it to {SECRETS} in the home (chmod 600)"
        )
    return _nested(path, value)


def _nested(path: str, value: Any) -> dict[str, Any]:
    """`a.b.c` and a value -> {"a": {"b": {"c": value}}}."""
    for part in reversed(path.split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`: dicts are merged key by key, anything else is replaced, lists too."""
    merged = dict(base)
    for key, value in over.items():
        both_are_dicts = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both_are_dicts else value
    return merged
