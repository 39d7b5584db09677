"""``python -m pipeline.compare``: what it says, as text and as a page."""

import re
from itertools import pairwise

import pytest

from pipeline.compare import main
from tests.browser import needs_browser, opened
from tests.stored_runs import store_run
from tests.tables import answered, failed, outcomes_of, random_outcomes
from tests.test_report import EVIL, Page


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on the same 3,000 images: the second is worse, and was made by other weights in another precision."""
    folder = tmp_path_factory.mktemp("runs")
    better = random_outcomes(3000, accuracy=0.8)
    worse = random_outcomes(3000, accuracy=0.6)
    column = worse.schema.get_field_index("size_bytes")
    worse = worse.set_column(column, "size_bytes", better["size_bytes"]).cast(better.schema)
    for name in ("image", "truth_index", "breed", "wnid"):
        assert worse[name] == better[name]
    return store_run(folder / "a", better), store_run(folder / "b", worse, precision="bf16", run_id="b")


def lines_of(text):
    return dict(re.findall(r"^(.{12}) (.*)$", text, re.MULTILINE))


def test_the_text_says_which_is_better(runs, capsys):
    assert main([run.url for run in runs]) == 0

    said = {label.strip(): text for label, text in lines_of(capsys.readouterr().out).items()}
    assert said["images"] == "3,000 in both at one version, of 3,000 and 3,000"
    assert re.match(
        r"B is worse \(−\d+\.\d points, 95 % interval −\d+\.\d to −\d+\.\d; McNemar's p = .*\)", said["B less A"]
    )
    assert said["A"].endswith("(SHA-256 aaaaaaaaaaaa) in fp32")
    assert said["B"].endswith("in bf16")
    assert "page" not in said


def test_equal_runs_are_told_to_be_equal(runs, tmp_path, capsys):
    again = store_run(tmp_path, random_outcomes(3000, accuracy=0.8))

    assert main([runs[0].url, again.url]) == 0

    out = capsys.readouterr().out
    assert "no difference can be told (+0.0 points" in out
    assert "agreement    100.0% got the same answer" in out


def test_the_page_says_it_too(runs, tmp_path, capsys):
    assert main([run.url for run in runs] + ["--output", str(tmp_path / "page.html")]) == 0

    page = Page((tmp_path / "page.html").read_text())
    said = re.search(r"^B less A     (.*)$", capsys.readouterr().out, re.MULTILINE)[1]
    assert said in page.text
    assert "A is right where B is wrong" in page.text
    assert "B is right where A is wrong" in page.text
    assert "precision" in page.text
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert {link["href"][1:] for link in page.all("a")} <= set(identifiers)


def test_names_out_of_a_bucket_are_text(tmp_path):
    images = [{"image": f"file:///{i}{EVIL}.jpg", "breed": EVIL, "category": EVIL} for i in range(2)]
    a = store_run(tmp_path / "a", outcomes_of([answered(1, 1, **images[0]), answered(1, 0, **images[1])]))
    b = store_run(tmp_path / "b", outcomes_of([answered(1, 0, **images[0]), answered(1, 1, **images[1])]))

    assert main([a.url, b.url, "--output", str(tmp_path / "page.html")]) == 0

    page = Page((tmp_path / "page.html").read_text())
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert EVIL in page.text


@pytest.mark.parametrize(
    ("rows_a", "rows_b"),
    [
        ([failed()], [failed()]),
        ([answered(None, 1)], [answered(None, 1)]),
        ([answered(0, 0)], [failed()]),
        ([answered(0, 0)], [answered(0, 0)]),
    ],
    ids=["failed", "untold", "one-failed", "one-image"],
)
def test_little_to_compare_is_told_in_words(tmp_path, capsys, rows_a, rows_b):
    a, b = store_run(tmp_path / "a", outcomes_of(rows_a)), store_run(tmp_path / "b", outcomes_of(rows_b))

    assert main([a.url, b.url, "--output", str(tmp_path / "page.html")]) == 0

    out = capsys.readouterr().out
    assert not re.search(r"\b(nan|None)\b", out + Page((tmp_path / "page.html").read_text()).text)


def test_bad_usage_is_one_line(runs, tmp_path, capsys):
    elsewhere = store_run(tmp_path / "elsewhere", outcomes_of([answered(0, 0, etag="other")]))
    for arguments, words in [
        ([runs[0].url, runs[0].url], "was given twice"),
        ([runs[0].url, f"{tmp_path}/nothing"], "holds no run"),
        ([runs[0].url, elsewhere.url], "have no image in common"),
        ([runs[0].url], "Missing argument"),
    ]:
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_has_nothing_to_complain_of(runs, tmp_path, width):
    main([run.url for run in runs] + ["--output", str(tmp_path / "page.html")])

    with opened(tmp_path / "page.html", viewport={"width": width, "height": 900}) as (page, said):
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
