from dags.submit import error_among


def test_the_error_of_a_submitted_command_is_its_own_line_whatever_is_logged_after_it() -> None:
    log = ["starting Spark on spark://h:7077", "millrace: no rows for 2026-01-07: load more days", "INFO ShutdownHook"]
    assert error_among(log) == "no rows for 2026-01-07: load more days"
    assert error_among(["Killed"]) == "Killed"
    assert error_among([]) == ""
