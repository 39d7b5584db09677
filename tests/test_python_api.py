"""What a person imports from the top of the package."""

import doctest
import subprocess
import sys

import pytest

import pipeline


def test_the_packages_own_example_does_what_it_says(drawings, weights, tmp_path):
    for key, data in drawings[:8]:
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    names = {"images": str(tmp_path / "Images"), "outcomes": str(tmp_path / "out"), "weights": str(weights)}
    example = doctest.DocTestParser().get_doctest(pipeline.__doc__, names, "pipeline", None, 0)

    results = doctest.DocTestRunner().run(example)

    assert (results.failed, results.attempted) == (0, 6)
    assert (tmp_path / "out" / "report.html").exists()


def test_every_name_is_there_and_no_other():
    assert all(getattr(pipeline, name) for name in pipeline.__all__)
    with pytest.raises(AttributeError, match="no attribute 'classify'"):
        _ = pipeline.classify


def test_importing_the_package_imports_nothing_else():
    code = "import sys, pipeline; print([name for name in sys.modules if name.startswith('pipeline.')])"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
