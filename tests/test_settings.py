"""Settings from Dask's configuration: YAML, and Dask's own reading of the environment, make something else of some."""

import os

import dask.config
import pytest

from pipeline.config import RunConfig, configured_defaults
from pipeline.errors import UsageError
from pipeline.run import main


def settings_of(**environment):
    """Return what the environment sets, as Dask reads it."""
    names = {f"DASK_PIPELINE__{name.upper()}": value for name, value in environment.items()}
    with dask.config.set(dask.config.collect([], env=names)):
        return configured_defaults()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("labels", "none", "none"),
        ("anon", "1", True),
        ("anon", "true", True),
        ("requester_pays", "False", False),
        ("compile", "off", "off"),
        ("batch_size", "7", "7"),
        ("include", "*.webp", ["*.webp"]),
        ("exclude", "['a*', 'b*']", ["a*", "b*"]),
        ("weights", "DEFAULT", "DEFAULT"),
    ],
)
def test_the_environment_sets_what_the_command_line_would(name, value, expected):
    assert settings_of(**{name: value}) == {name: expected}


def test_yaml_s_own_words_are_understood():
    with dask.config.set({"pipeline": {"compile": False, "labels": None, "limit": 12, "detach": 0}}):
        assert configured_defaults() == {"compile": "off", "labels": "none", "limit": "12", "detach": False}


def test_what_is_set_to_nothing_is_left_at_its_default():
    with dask.config.set({"pipeline": {"limit": None, "categories": None}}):
        assert configured_defaults() == {}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("detach", "2", "pipeline.detach (or DASK_PIPELINE__DETACH) to 2: expected true or false"),
        ("upload", "[1]", "expected true or false"),
        ("min_workers", "1.5", "'1.5' is not a valid integer"),
        ("max_failure_rate", "True", "'on' is not a valid"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_one_line(name, value, said, capsys):
    names = {f"DASK_PIPELINE__{name.upper()}": value}
    with dask.config.set(dask.config.collect([], env=names)):
        status = main(["images", "outcomes"])

    error = capsys.readouterr().err
    assert status == 2
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("option", ["max_failure_rate", "stall_timeout", "decode_timeout"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_limit_that_is_no_number_is_refused(option, value):
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} {value}"):
        RunConfig("images", "outcomes", **{option: value})


def test_the_environment_of_these_tests_sets_nothing():
    assert not [name for name in os.environ if name.startswith("DASK_PIPELINE")]
