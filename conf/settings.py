"""Settings as pydantic models, and `load()`, which fills them from profile, experiment, environment and `--set`.

Each model stands beside the code that it configures; SECTIONS says where. Sources, each overriding those before it:
defaults in code, `conf/profiles/<profile>.yaml`, settings chosen by searches (`tuned.py`), an experiment file,
environment variables (`MILLRACE__SPARK__MASTER=…`), and `--set spark.master=…`.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from conf.errors import UserError
from conf.tuned import tuned_settings_files
from conf.yaml_text import parse_yaml

MAX_INT = 2**31 - 1  # of Java, SQL and most of what settings are handed to

ENV_PREFIX = "MILLRACE__"  # double underscores, because keys contain single ones

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
    "network": "conf.network:NetworkSettings",
    "dags": "dags.local_airflow:DagsSettings",
}


def secret_keys(section: str) -> set[str]:
    """Keys of a section whose values are passwords and the like: never printed, saved or sent to a cluster."""
    return _own_secrets(model_of(section))


def _own_secrets(model: type[BaseModel]) -> set[str]:
    # By the annotation's text: a field may be SecretStr, SecretStr | None or hold it deeper.
    return {name for name, field in model.model_fields.items() if "SecretStr" in str(field.annotation)}


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
        # mode="json": pydantic prints SecretStr as asterisks then, and paths and dates as text that YAML can hold.
        return {name: self.get(model_of(name)).model_dump(mode="json") for name in SECTIONS}

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
        overrides: `section.key=value` texts as given to `--set`; the value is parsed as YAML.
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
    for file in tuned_settings_files(_home(_merge(values, explicit))):
        values = _merge(values, _read_yaml(file))
    return _validated(Config(profile, _merge(values, explicit), explicit))


def environment_variable(section: str, key: str, value: Any) -> tuple[str, str]:
    """Name and text of the environment variable from which `load` reads this value again, on another machine say."""
    name = f"{ENV_PREFIX}{section}__{key}".upper()
    if isinstance(value, str) and key in _secret_names(model_of(section)):
        return name, value  # as it is, see `_parse_value`
    return name, json.dumps(value, default=str)  # `load` parses YAML, and JSON is YAML


def _home(values: Mapping[str, Any]) -> Path:
    """paths.home before validation: the values may still be anything that YAML can say."""
    paths = values.get("paths")
    home = paths.get("home") if isinstance(paths, Mapping) else None
    return Path(str(home or model_of("paths").model_fields["home"].default)).expanduser()


def _validated(config: Config) -> Config:
    """Return `config`. Raises UserError when one of its sections or values is wrong."""
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
    """One of pydantic's error records as a sentence in the words of the settings."""
    key = ".".join([model.section, *(str(part) for part in problem["loc"])])
    if problem["type"] == "extra_forbidden":
        return f"unknown setting '{key}' (= {problem['input']!r}); allowed here: {', '.join(model.model_fields)}"
    message = problem["msg"].removeprefix("Value error, ")
    is_secret = bool(problem["loc"]) and problem["loc"][-1] in _secret_names(model)
    # What a validator of a whole entry says names the key itself; the entry may hold a secret.
    if is_secret or isinstance(problem["input"], Mapping):
        return f"setting {key}: {message}"
    return f"setting {key} = {problem['input']!r}: {message}"


def _secret_names(annotation: Any) -> set[str]:
    """Names of the fields of a model, and of the models in its fields, that hold passwords and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        nested = (_secret_names(field.annotation) for field in annotation.model_fields.values())
        return _own_secrets(annotation).union(*nested)
    return set().union(*(_secret_names(part) for part in get_args(annotation)))


def _parse_value(path: str, text: str, where: str) -> Any:
    """A value of the environment or the command line: YAML, but a secret is the text as it is."""
    section, _, key = path.partition(".")
    if section in SECTIONS and key.rpartition(".")[2] in _secret_names(model_of(section)):
        return text or None
    return parse_yaml(text, where)


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
    values = parse_yaml(text, where) or {}
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
    path, equals, value = text.partition("=")
    if not equals or "." not in path:
        raise UserError(f"--set {text!r}: write it as section.key=value")
    return _nested(path.strip(), _parse_value(path.strip(), value, f"--set {path.strip()}"))


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
