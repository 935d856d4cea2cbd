"""Searching the settings of the recall channels: trials run on Spark, in one session."""

from datetime import date

from conf import Config
from features.dataset.names import examples_version
from tuning.targets.target import Target
from tuning.targets.trial import Trial


class Recall(Target):
    """`millrace tune recall`."""

    family = "recall"
    metric = "recall@50"
    on_spark = True
    can_change = False

    def data(self, config: Config, day: date) -> date:
        examples_version(config, day)  # refuses a day without a training set before Spark starts
        return day

    def run(self, config: Config, data: date, trial: Trial) -> None:
        # Imported here: searches on Ray need no Spark. Within the session of the search, this one is the same.
        from etl.session import spark_session
        from recsys.recall.candidates import measure

        with spark_session(config) as spark:
            trial.report(measure(spark, config, data, "valid"), None)

    def test(self, config: Config, day: date) -> dict[str, float]:
        from etl.session import spark_session
        from recsys.recall.candidates import measure

        with spark_session(config) as spark:
            return measure(spark, config, day, "test")
