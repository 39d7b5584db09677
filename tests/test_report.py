"""The report: what it says, that it cannot be made to say anything else, and what a browser makes of it."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from pipeline.config import RunConfig, command_line
from pipeline.evaluation import evaluate
from pipeline.report import main
from pipeline.review.reporting import report_of
from pipeline.review.stored_outcomes import read_outcomes
from tests.browser import needs_browser, opened
from tests.stored_runs import store_drawn_run, store_run
from tests.tables import answered, failed, outcomes_of, random_outcomes

EVIL = "<img src=x onerror=alert(1)>&\"'</script><script>alert(2)</script>"


class Page(HTMLParser):
    """What a page is made of: its elements, their attributes, and the text that a reader sees."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self._inside = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, drawings):
    """A folder of drawings, and a run over it that made up its answers."""
    return store_drawn_run(tmp_path_factory.mktemp("drawn"), drawings[:60])


def test_it_says_what_the_outcomes_say(drawn):
    page = Page(report_of(drawn))
    evaluation = evaluate(read_outcomes(drawn.url))

    assert f"{evaluation.top1.value:.1%}" in page.text
    assert f"{evaluation.top1.n_hits} of {evaluation.top1.n} images" in page.text
    assert "3.2% of 62 images failed" in page.text
    assert "inference-bound: the model was busy" in page.text
    assert "gone since it was listed" in page.text
    assert "python -m pipeline.run" in page.text
    assert "a" * 64 in page.text
    assert evaluation.names[151] in page.text


def test_the_mistakes_are_shown_as_the_model_saw_them(drawn):
    page = Page(report_of(drawn))

    pictures = [image for image in page.all("img") if image["src"].startswith("data:image/jpeg")]

    assert len(pictures) == 24
    assert all(image["alt"] for image in page.all("img"))
    shown = re.findall(r"with (\d+\.\d)%", page.text)
    assert shown == sorted(shown, key=float, reverse=True)


def test_a_source_that_is_gone_leaves_the_report_without_pictures_only(tmp_path):
    destination = store_run(tmp_path, outcomes_of([answered(0, 1, image=f"file://{tmp_path}/gone.jpg")]))

    page = Page(report_of(destination))

    assert "gone since it was listed" in page.text
    assert not [image for image in page.all("img") if image["src"].startswith("data:image/jpeg")]


def test_names_out_of_a_bucket_are_text_wherever_they_stand(tmp_path):
    rows = [
        answered(151, 152, image=f"file:///{EVIL}.jpg", etag="same", width=50, height=20, breed=EVIL, category=EVIL),
        answered(151, 152, image=f"file:///2{EVIL}.jpg", etag="same"),
        failed(image=f"file:///3{EVIL}.jpg", reason=EVIL),
    ]
    plain = outcomes_of([answered(151, 152), answered(151, 152), failed()])

    evil_page = Page(report_of(store_run(tmp_path / "evil", outcomes_of(rows), f"file:///{EVIL}")))
    plain_page = Page(report_of(store_run(tmp_path / "plain", plain)))

    assert len(evil_page.all("script")) == len(plain_page.all("script")) == 2
    assert not [image for image in evil_page.all("img") if not image["src"].startswith("data:")]
    assert not [1 for _, attributes in evil_page.elements if any(name.startswith("on") for name in attributes)]
    assert EVIL in evil_page.text


def test_it_needs_nothing_beside_it(drawn):
    html = report_of(drawn)
    page = Page(html)

    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, name)
    assert "url(" not in html
    assert "@import" not in html


def test_it_warns_that_imagenet_has_seen_the_dogs(drawn, tmp_path):
    dogs = Page(report_of(store_run(tmp_path / "dogs", random_outcomes(50))))
    others = Page(report_of(store_run(tmp_path / "others", outcomes_of([answered(0, 0)]))))

    assert "Stanford Dogs was drawn from ImageNet's training images" in dogs.text
    assert "Stanford Dogs" not in others.text


@pytest.mark.parametrize(
    "rows", [[], [failed()], [answered(None, 1)], [answered(0, 0)]], ids=["none", "failed", "untold", "one"]
)
def test_little_to_tell_is_told_in_words(rows, tmp_path):
    page = Page(report_of(store_run(tmp_path, outcomes_of(rows))))

    assert ("no image with a known truth was classified" in page.text) == (not any(row.get("correct") for row in rows))
    assert not re.search(r"\b(nan|None)\b", page.text)


def test_headings_tables_and_pictures_are_what_they_are_called(drawn):
    page = Page(report_of(drawn))

    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(heading.get("scope") in ("col", "row") for heading in page.all("th"))
    assert all("alt" in image for image in page.all("img"))
    assert all("aria-label" in drawing or drawing.get("aria-hidden") == "true" for drawing in page.all("svg"))
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert {link["href"][1:] for link in page.all("a")} <= set(identifiers)


def test_a_million_images_of_a_thousand_classes_would_fit(tmp_path):
    """What grows with the classes is 1,000 rows and a million cells; what grows with the images has its limits."""
    rows = [answered(i % 1000, (i * 7) % 1000, 0.5) for i in range(6000)]

    html = report_of(store_run(tmp_path, outcomes_of(rows)), n_thumbnails=0)

    assert len(html) < 2_000_000


def test_the_command_writes_into_the_destination_or_a_file(drawn, tmp_path, capsys):
    assert main([drawn.url, "--thumbnails", "2"]) == 0
    assert main([drawn.url, "--thumbnails", "0", "--output", str(tmp_path / "own.html")]) == 0

    assert capsys.readouterr().out == f"report       {drawn.url}/report.html\nreport       {tmp_path}/own.html\n"
    assert drawn.read("report.html").startswith(b"<!doctype html>")
    assert (tmp_path / "own.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["{}/nothing"], 2, "holds no run"),
        (["{}", "--output", "/dev/null/report.html"], 2, "cannot write /dev/null/report.html"),
        ([], 2, "Missing argument"),
    ],
)
def test_bad_usage_is_one_line(drawn, capsys, arguments, status, words):
    assert main([argument.format(drawn.url) for argument in arguments]) == status

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_it_starts_without_what_it_does_not_need():
    code = "import sys, pipeline.report; print([name for name in ('torch', 'distributed') if name in sys.modules])"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_command_of_a_run_can_be_typed_again():
    config = RunConfig("s3://b/dogs", "s3://b/out", include=("a b/*",), anon=True, limit=5, precision="bf16")
    stored = {name: getattr(config, name) for name in RunConfig.__slots__} | {"include": ["a b/*"], "exclude": []}

    words = "python -m pipeline.run s3://b/dogs s3://b/out --precision bf16 --include 'a b/*' --limit 5 --anon"
    assert command_line(stored) == words


# In a browser


@pytest.fixture(scope="module")
def page_file(drawn, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report_of(drawn), encoding="utf-8")
    return path


@needs_browser
@pytest.mark.parametrize(
    "settings",
    [
        {"viewport": {"width": 1280, "height": 900}},
        {"viewport": {"width": 390, "height": 844}},
        {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    ],
    ids=["desktop", "phone", "dark"],
)
def test_a_browser_has_nothing_to_complain_of(page_file, settings):
    with opened(page_file, **settings) as (page, said):
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth") <= settings["viewport"]["width"]
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert page.evaluate("[...document.images].every(image => Math.abs(image.width - image.height) <= 1)")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 300) == (settings.get("color_scheme") == "dark")


@needs_browser
def test_classes_can_be_sorted_and_searched(page_file):
    with opened(page_file) as (page, said):
        rows = "[...document.querySelectorAll('#class-table tbody tr')].filter(row => !row.hidden)"
        names, recall = (
            f"{rows}.map(row => row.cells[0].textContent)",
            f"{rows}.map(row => +row.cells[2].dataset.value)",
        )
        assert page.evaluate(recall) == sorted(page.evaluate(recall))

        page.get_by_role("button", name="recall").click()
        assert page.evaluate(recall) == sorted(page.evaluate(recall), reverse=True)
        page.get_by_role("button", name=re.compile("^class")).click()
        assert page.evaluate(names) == sorted(page.evaluate(names), key=str.lower)
        assert page.locator("th[aria-sort]").count() == 1

        page.get_by_label("Search classes").fill("SPANIEL")
        assert all("spaniel" in name.lower() for name in page.evaluate(names))
        assert 0 < len(page.evaluate(names)) < 5
        page.get_by_label("Search classes").fill("")
        assert len(page.evaluate(names)) == 5
        assert said == []


@needs_browser
def test_the_picture_of_confusions_says_what_a_cell_is(page_file):
    with opened(page_file) as (page, _):
        page.locator("img.matrix").hover(position={"x": 3, "y": 3})

        assert "recognised" in page.locator("#matrix-cell").text_content()


@needs_browser
def test_no_script_of_a_name_runs(tmp_path):
    rows = [answered(151, 152, image=f"file:///{EVIL}.jpg", breed=EVIL, category=EVIL), failed(reason=EVIL)]
    path = tmp_path / "evil.html"
    path.write_text(report_of(store_run(tmp_path / "run", outcomes_of(rows))), encoding="utf-8")

    with opened(path) as (page, said):
        page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
        page.locator("img.matrix").hover()
        page.wait_for_timeout(200)

        assert said == []
