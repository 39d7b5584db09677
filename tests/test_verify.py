"""Verify proves what is whole and finds every damage; destinations are made by the pipeline's own writers."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import verify as command
from pipeline.audit import audit as audit_module
from pipeline.audit.audit import Audit
from pipeline.audit.evidence import VERSIONS
from pipeline.audit.findings import Findings, Kind
from pipeline.audit.inventory import take_inventory
from pipeline.audit.merging import Span, chained, crossing, merged
from pipeline.engine.plan import PlanTotals
from pipeline.errors import StorageError
from pipeline.records import ImageRef, Outcome, Part, Tally
from pipeline.running.provenance import Session, conclude
from pipeline.stages.listing import Selection, select
from pipeline.stages.outcomes import encode_outcomes, encode_plan_page
from pipeline.storage import StorageOptions, open_storage, resolve_url
from pipeline.verify import main, verify

FINGERPRINT = "f" * 64
SESSION = Session("session", "2026-01-01T00:00:00+00:00", 0, {}, {}, None, {}, "no: --compile off")

CONSEQUENCES = {Kind.MARKED, Kind.RECORD}
"""What most damages of a completed run bring along; each has tests of its own."""

ANY_SIZE = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ref(number: int) -> ImageRef:
    return ImageRef(f"s3://bucket/dogs/{number:04d}.jpg", f"etag-{number}", 100 + number)


def outcome(image: ImageRef, number: int) -> Outcome:
    """Return a row: every fifth failed, every third of unknown truth, every second right."""
    known = Outcome(image.url, image.etag, image.size_bytes, "n02106030", "collie", 231, "ok", "000000-00")
    if number % 5 == 4:
        return replace(known, status="failed", stage=("read", "decode")[number % 2], reason="empty file")
    if number % 3 == 2:
        return replace(known, wnid=None, breed=None, truth_index=None, class_index=3)
    is_right = number % 2 == 0
    return replace(known, class_index=231, correct=is_right, correct_top5=True, correct_breed=is_right)


@dataclass
class Run:
    """A destination in memory, to be damaged before it is stored."""

    pages: list[list[Part]]
    rows: dict[int, list[Outcome]]
    fingerprints: dict[int, str]
    record: dict[str, Any] | None = None
    closed: dict[str, Any] | None = None
    is_marked: bool = True
    objects: dict[str, bytes] = field(default_factory=dict)
    """Objects that are stored last, over what the run would store; None deletes."""

    def __post_init__(self) -> None:
        refs = [ref for page in self.pages for part in page for ref in part.refs]
        n_parts = sum(map(len, self.pages))
        self.closed = {"n_images": len(refs), "n_parts": n_parts}
        totals = PlanTotals(len(refs), n_parts, len(self.pages))
        tally = tally_of([row for rows in self.rows.values() for row in rows])
        config = {"include": [], "exclude": [], "limit": None}
        self.record = conclude({"fingerprint": FINGERPRINT, "config": config}, totals, tally, SESSION)

    def part(self, index: int) -> Part:
        return next(part for page in self.pages for part in page if part.index == index)

    def replan(self, index: int, refs: list[ImageRef]) -> None:
        """Change the images of a part."""
        self.pages = [
            [Part(index, tuple(refs)) if part.index == index else part for part in page] for page in self.pages
        ]

    def stored(self) -> Iterator[tuple[str, bytes]]:
        for number, page in enumerate(self.pages):
            if any(part.refs for part in page):
                yield f"plan/page-{number:06d}.parquet", encode_plan_page([part for part in page if part.refs])
        for index, rows in self.rows.items():
            yield f"outcomes/part-{index:06d}.parquet", encode_outcomes(rows, self.fingerprints[index])
        for name, content in (("run.json", self.record), ("plan/_CLOSED", self.closed)):
            if content is not None:
                yield name, json.dumps(content).encode()
        if self.is_marked:
            yield "_SUCCESS", b""
        yield from self.objects.items()

    def store(self, folder: Path) -> Path:
        for name, data in self.stored():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder


def tally_of(rows: list[Outcome]) -> Tally:
    ok = [row for row in rows if row.status == "ok"]
    return Tally(
        n_images=len(rows),
        n_ok=len(ok),
        n_truth=sum(row.correct is not None for row in ok),
        n_correct=sum(row.correct is True for row in ok),
        n_correct_top5=sum(row.correct_top5 is True for row in ok),
        n_breed_truth=sum(row.correct_breed is not None for row in ok),
        n_correct_breed=sum(row.correct_breed is True for row in ok),
        failures=Counter((row.stage, row.reason) for row in rows if row.status == "failed"),
    )


def made(generations: tuple[int, ...] = (12,), part_size: int = 2, page_size: int = 2) -> Run:
    """Return a complete run of that many images, planned in interleaved generations."""
    pages: list[list[Part]] = []
    n_parts = 0
    for generation, n_images in enumerate(generations):
        refs = [ref(number * len(generations) + generation) for number in range(n_images)]
        chunks = [refs[begin : begin + part_size] for begin in range(0, n_images, part_size)]
        parts = [Part(n_parts + i, tuple(chunk)) for i, chunk in enumerate(chunks)]
        pages += [parts[begin : begin + page_size] for begin in range(0, len(parts), page_size)]
        n_parts += len(parts)
    parts = [part for page in pages for part in page]
    rows = {part.index: [outcome(image, int(image.etag[5:])) for image in part.refs] for part in parts}
    return Run(pages, rows, dict.fromkeys(rows, FINGERPRINT))


def audited(folder: Path) -> Audit:
    return verify(str(folder), None, StorageOptions())


def found(run: Run, folder: Path) -> dict[Kind, int]:
    """Return what is found in a run, without what most damages bring along."""
    findings = audited(run.store(folder)).findings
    return {finding.kind: finding.n for finding in findings if finding.kind not in CONSEQUENCES}


def examples(folder: Path, kind: Kind) -> tuple[str, ...]:
    return next(finding.examples for finding in audited(folder).findings if finding.kind is kind)


def said(run: Run, folder: Path, kind: Kind) -> tuple[str, ...]:
    return examples(run.store(folder), kind)


# What is whole is proven


def test_a_complete_run_is_proven_with_status_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status = main([str(made().store(tmp_path))])

    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"destination  {resolve_url(str(tmp_path))}",
        "planned      12 images in 6 parts",
        "rows         12: 10 ok, 2 failed",
        "proven       every planned image has exactly one row",
    ]


@ANY_SIZE
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=4).map(tuple),
    st.integers(1, 5),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_no_damage_is_never_reported(tmp_path_factory, generations, part_size, page_size, random):
    run = made(generations, part_size, page_size)
    for rows in run.rows.values():
        random.shuffle(rows)

    assert list(audited(run.store(tmp_path_factory.mktemp("whole"))).findings) == []


def test_an_emptied_page_or_part_is_no_fault(tmp_path: Path):
    run = made()
    run.objects = {
        "plan/page-000003.parquet": pq_bytes(pa.table(EMPTY_PAGE)),
        "outcomes/part-000006.parquet": encode_outcomes([], FINGERPRINT),
    }

    assert found(run, tmp_path) == {}


EMPTY_PAGE = {"image": pa.array([], "str"), "etag": pa.array([], "str")} | {
    name: pa.array([], "int64") for name in ("size_bytes", "part")
}


def pq_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def test_a_page_that_was_emptied_and_deleted_leaves_a_gap_that_is_no_fault(tmp_path: Path):
    run = made()
    run = Run([run.pages[0], [], run.pages[2]], {i: run.rows[i] for i in (0, 1, 4, 5)}, run.fingerprints)

    assert found(run, tmp_path) == {}


def test_names_that_are_no_utf8_are_out_of_order_only_in_their_spelling(tmp_path: Path):
    run = made()
    odd = replace(ref(5), url="s3://bucket/dogs/0004\udcff.jpg")
    run.replan(2, [ref(4), odd])
    run.rows[2][1] = outcome(odd, 5)

    assert found(run, tmp_path) == {}


def test_objects_beside_the_run_and_folder_markers_are_nobodys_business(tmp_path: Path):
    run = made()
    run.objects = {"notes.txt": b"", "report.html": b"", "_probe-1a2b": b"", "house/part-000000.parquet": b""}
    names = [*dict(run.stored()), "plan/", "outcomes/", ""]
    findings = Findings()

    take_inventory(names, findings)

    assert list(findings) == []


# Images and rows


def test_an_image_without_a_row_is_found(tmp_path: Path):
    run = made()
    del run.rows[2][1]

    assert found(run, tmp_path) == {Kind.MISSING: 1}
    assert examples(tmp_path, Kind.MISSING) == (ref(5).url,)


def test_a_part_that_is_missing_altogether_is_so_many_images_without_a_row(tmp_path: Path):
    run = made()
    del run.rows[2]

    assert found(run, tmp_path) == {Kind.MISSING: 2}


def test_a_row_without_a_planned_image_is_found(tmp_path: Path):
    run = made()
    run.rows[3].append(outcome(ref(99), 99))

    assert found(run, tmp_path) == {Kind.UNPLANNED: 1}
    assert examples(tmp_path, Kind.UNPLANNED) == (ref(99).url,)


def test_the_rows_of_a_part_that_no_page_names_are_without_a_planned_image(tmp_path: Path):
    run = made()
    run.rows[77] = [outcome(ref(0), 0), outcome(ref(99), 99)]
    run.fingerprints[77] = FINGERPRINT

    assert found(run, tmp_path) == {Kind.UNPLANNED: 2}


def test_a_row_in_another_part_than_planned_is_found_where_it_is_and_where_it_is_not(tmp_path: Path):
    run = made()
    run.rows[5].append(run.rows[0].pop())

    assert found(run, tmp_path) == {Kind.MISSING: 1, Kind.UNPLANNED: 1}


def test_an_image_with_two_rows_is_found(tmp_path: Path):
    run = made()
    run.rows[1] *= 3

    assert found(run, tmp_path) == {Kind.REPEATED: 2}
    assert set(examples(tmp_path, Kind.REPEATED)) == {ref(2).url, ref(3).url}


@pytest.mark.parametrize("change", [{"etag": "other"}, {"size_bytes": 1}], ids=["etag", "size"])
def test_a_row_of_another_version_than_planned_is_found(tmp_path: Path, change: dict[str, Any]):
    run = made()
    run.rows[4][0] = replace(run.rows[4][0], **change)

    assert found(run, tmp_path) == {Kind.STALE: 1}
    assert examples(tmp_path, Kind.STALE) == (ref(8).url,)


# The plan


@pytest.mark.parametrize("other", [0, 1, 2, 5], ids=["same part", "same page", "next page", "last page"])
def test_an_image_planned_twice_is_found_though_each_has_its_row(tmp_path: Path, other: int):
    run = made()
    run.replan(other, sorted([*run.part(other).refs, ref(1)], key=lambda image: image.url))
    if other:
        run.rows[other].append(outcome(ref(1), 1))

    assert {Kind.PLANNED_TWICE: 1}.items() <= found(run, tmp_path).items()
    assert examples(tmp_path, Kind.PLANNED_TWICE) == (ref(1).url,)


def test_an_image_planned_again_in_a_later_generation_is_found(tmp_path: Path):
    run = made((12, 6, 5), part_size=2, page_size=2)
    twice = run.part(0).refs[1]
    run.replan(10, [*run.part(10).refs, twice])
    run.rows[10].append(outcome(twice, 0))

    assert found(run, tmp_path) == {Kind.PLANNED_TWICE: 1, Kind.UNSORTED: 1, Kind.LENGTH: 1}


def test_a_page_out_of_order_is_found_and_checked_all_the_same(tmp_path: Path):
    run = made((12, 4))
    run.replan(3, list(reversed(run.part(3).refs)))
    del run.rows[3][0]

    assert found(run, tmp_path) == {Kind.UNSORTED: 1, Kind.MISSING: 1}
    assert examples(tmp_path, Kind.UNSORTED) == ("plan/page-000001.parquet",)


def test_an_image_planned_twice_is_found_in_pages_out_of_order_too(tmp_path: Path):
    run = made((12, 4), part_size=6)
    run.replan(0, list(reversed(run.part(0).refs)))
    run.replan(2, [run.part(0).refs[4], *run.part(2).refs])

    assert found(run, tmp_path)[Kind.PLANNED_TWICE] == 1


def test_a_part_that_two_pages_name_is_found(tmp_path: Path):
    run = made()
    run.pages[2][0] = replace(run.pages[2][0], index=0)
    run.rows[0] += run.rows.pop(4)

    assert found(run, tmp_path)[Kind.SHARED_PART] == 1
    assert examples(tmp_path, Kind.SHARED_PART) == ("outcomes/part-000000.parquet",)


def test_a_page_that_is_lost_with_its_parts_is_found_by_what_the_plan_closed_with(tmp_path: Path):
    run = made()
    del run.pages[2], run.rows[4], run.rows[5]

    assert found(run, tmp_path) == {Kind.LENGTH: 2}
    assert examples(tmp_path, Kind.LENGTH) == ("n_images is 12, not 8", "n_parts is 6, not 4")


# Objects


def test_a_part_of_another_fingerprint_is_found(tmp_path: Path):
    run = made()
    run.fingerprints[3] = "0" * 64

    assert found(run, tmp_path) == {Kind.OTHER_FINGERPRINT: 1}


def test_a_run_json_without_a_fingerprint_makes_every_part_one_of_another(tmp_path: Path):
    run = made()
    del run.record["fingerprint"]

    assert found(run, tmp_path) == {Kind.OTHER_FINGERPRINT: 6}


def test_a_part_that_was_judged_by_other_labels_is_found(tmp_path: Path):
    run = made()
    run.objects["outcomes/part-000003.parquet"] = encode_outcomes(run.rows[3], FINGERPRINT, labels="sha256:0")

    assert found(run, tmp_path) == {Kind.OTHER_LABELS: 1}


def test_a_part_that_names_no_fingerprint_is_found(tmp_path: Path):
    run = made()
    table = pq.read_table(pa.BufferReader(encode_outcomes(run.rows[3], FINGERPRINT)))
    run.objects["outcomes/part-000003.parquet"] = pq_bytes(table.replace_schema_metadata())

    assert found(run, tmp_path) == {Kind.NO_FINGERPRINT: 1}


@pytest.mark.parametrize("name", ["outcomes/part-000003.parquet", "plan/page-000001.parquet"])
@pytest.mark.parametrize("cut", [0, 10, -1], ids=["empty", "begun", "a byte short"])
def test_half_a_parquet_object_is_found(tmp_path: Path, name: str, cut: int):
    run = made()
    run.objects[name] = dict(run.stored())[name][:cut]

    assert found(run, tmp_path)[Kind.UNREADABLE] == 1
    assert examples(tmp_path, Kind.UNREADABLE)[0].startswith(f"{name} (")


def test_the_images_of_a_part_that_cannot_be_read_have_no_row(tmp_path: Path):
    run = made()
    run.objects["outcomes/part-000003.parquet"] = b"PAR1"

    assert found(run, tmp_path) == {Kind.UNREADABLE: 1, Kind.MISSING: 2}


@pytest.mark.parametrize("column", ["image", "etag", "size_bytes", "status"])
@pytest.mark.parametrize("how", ["dropped", "null"])
def test_a_part_without_what_every_row_has_cannot_be_read(tmp_path: Path, column: str, how: str):
    run = made()
    table = pq.read_table(pa.BufferReader(encode_outcomes(run.rows[3], FINGERPRINT)))
    at = table.schema.get_field_index(column)
    nulls = table.set_column(at, column, pa.nulls(len(table), table.schema.field(column).type))
    run.objects["outcomes/part-000003.parquet"] = pq_bytes(nulls if how == "null" else table.remove_column(at))

    assert found(run, tmp_path) == {Kind.UNREADABLE: 1, Kind.MISSING: 2}
    assert how == "null" or f"(no column {column})" in examples(tmp_path, Kind.UNREADABLE)[0]


@pytest.mark.parametrize("name", ["run.json", "plan/_CLOSED"])
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff"], ids=["empty", "half", "list", "binary"])
def test_a_json_that_is_none_is_found(tmp_path: Path, name: str, data: bytes):
    run = made()
    run.objects[name] = data

    assert found(run, tmp_path)[Kind.UNREADABLE] == 1


def test_a_missing_run_json_is_found(tmp_path: Path):
    run = made()
    run.record = None

    assert found(run, tmp_path) == {Kind.UNREADABLE: 1}
    assert examples(tmp_path, Kind.UNREADABLE) == ("run.json (missing)",)


@pytest.mark.parametrize(
    "name",
    [
        "outcomes/mine.parquet",
        "outcomes/part-0000001.parquet",
        "outcomes/part-1.parquet",
        "outcomes/page-000000.parquet",
        "outcomes/deeper/part-000000.parquet",
        "outcomes/xpart-000001.parquet",
        "plan/page-000000.parquet.bak",
        "plan/part-000000.parquet",
        "plan/_SUCCESS",
        "outcomes/half.partial",
    ],
)
def test_an_object_that_no_run_wrote_is_found(tmp_path: Path, name: str):
    run = made()
    run.objects[name] = b"PAR1"

    assert found(run, tmp_path) == {Kind.FOREIGN: 1}
    assert examples(tmp_path, Kind.FOREIGN) == (name,)


@pytest.mark.parametrize("name", ["outcomes/.part-000001.parquet.ab12.partial", "plan/_page.partial"])
def test_a_half_file_of_a_killed_writer_is_told_and_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    run = made()
    run.objects[name] = b"PAR1"

    status = main([str(run.store(tmp_path))])

    assert status == 0
    assert f"note         {Kind.LEFTOVER.words}: 1 ({name})" in capsys.readouterr().out


# The marks


def test_a_mark_on_a_run_that_lacks_a_row_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = made()
    del run.rows[2][1]

    status = main([str(run.store(tmp_path))])

    out, err = capsys.readouterr()
    assert status == 3
    assert f"violated     {Kind.MARKED.words}\n" in out
    assert f"violated     {Kind.MISSING.words}: 1 ({ref(5).url})\n" in out
    assert err == "error: not proven: 3 kinds of findings, listed above\n"


def test_a_mark_on_a_run_whose_listing_did_not_end_is_found(tmp_path: Path):
    run = made()
    run.closed = None

    kinds = [finding.kind for finding in audited(run.store(tmp_path)).findings]

    assert kinds == [Kind.NOT_CLOSED, Kind.MARKED]


def test_a_complete_run_without_its_mark_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = made()
    run.is_marked = False

    status = main([str(run.store(tmp_path))])

    out, err = capsys.readouterr()
    assert status == 3
    assert "violated     complete but not marked: _SUCCESS is missing\n" in out
    assert err == "error: not proven: 1 kind of findings, listed above\n"


def test_an_unfinished_run_says_how_many_are_missing_and_what_resumes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = made()
    run.is_marked, run.closed = False, None
    del run.rows[2], run.rows[5]

    status = main([str(run.store(tmp_path))])

    out, err = capsys.readouterr()
    assert status == 3
    assert f"unfinished   {Kind.MISSING.words}: 4 ({ref(4).url}; {ref(5).url}; {ref(10).url}; ...)\n" in out
    assert f"unfinished   {Kind.NOT_CLOSED.words}\n" in out
    assert "violated" not in out
    assert err == (
        "error: not proven: 4 of 12 planned images have no row, and the listing did not end; "
        "the same python -m pipeline.run command resumes the run\n"
    )


def test_a_run_that_has_only_begun_is_unfinished(tmp_path: Path):
    run = made()
    run.pages, run.rows, run.closed, run.is_marked = [], {}, None, False

    assert found(run, tmp_path) == {Kind.NOT_CLOSED: 1}


# run.json's figures


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    *above, last = path.split(".")

    def apply(record: dict[str, Any]) -> None:
        for name in above:
            record = record[name]
        record[last] = value

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        change("counts.n_images", 13),
        change("counts.n_ok", 9),
        change("counts.n_failed", None),
        change("counts.failures", []),
        change("counts.failures", [{"stage": "infer", "reason": "x", "n_images": 2}]),
        lambda record: record["counts"]["failures"].append({"stage": "infer", "reason": "x", "n_images": 1}),
        change("counts", None),
        change("accuracy.top1.n", 5),
        change("accuracy.top1.n_hits", 0),
        change("accuracy.top1.value", 0.99),
        change("accuracy.top5.n_hits", 2),
        change("accuracy.breed.n_hits", 0),
        change("accuracy", {}),
    ],
)
def test_figures_of_run_json_that_differ_from_the_rows_are_found(tmp_path: Path, damage):
    run = made()
    damage(run.record)

    kinds = {finding.kind for finding in audited(run.store(tmp_path)).findings}

    assert kinds == {Kind.RECORD}


def test_a_row_that_turned_from_right_to_wrong_is_found_by_the_accuracy(tmp_path: Path):
    run = made()
    run.rows[0][0] = replace(run.rows[0][0], correct=False)

    assert said(run, tmp_path, Kind.RECORD)[0] == "accuracy.top1.n_hits is 3, not 2"


def test_an_unfinished_run_is_not_held_to_its_figures(tmp_path: Path):
    run = made()
    del run.rows[2], run.record["counts"]
    run.is_marked = False

    assert [finding.kind for finding in audited(run.store(tmp_path)).findings] == [Kind.MISSING]


# The source


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02d}.jpg").write_bytes(b"x" * number)
    return folder


def run_of(source: Path, **config: Any) -> Run:
    """Return a complete run of what a source lists."""
    selection = Selection(resolve_url(str(source)), **config)
    refs = list(select(open_storage(selection.folder, StorageOptions()).list_pages(selection.folder), selection))
    parts = [Part(i, tuple(refs[2 * i : 2 * i + 2])) for i in range((len(refs) + 1) // 2)]
    rows = {part.index: [outcome(image, 0) for image in part.refs] for part in parts}
    run = Run([parts[:2], parts[2:]], rows, dict.fromkeys(rows, FINGERPRINT))
    run.record["config"] |= config
    return run


def compared(run: Run, folder: Path, source: Path) -> dict[Kind, tuple[str, ...]]:
    findings = verify(str(run.store(folder)), str(source), StorageOptions()).findings
    return {finding.kind: finding.examples for finding in findings}


@pytest.mark.parametrize("config", [{}, {"exclude": ("0*",)}, {"include": ("1*",)}, {"limit": 5}], ids=str)
def test_a_source_that_did_not_change_is_proven_narrowed_as_the_run_was(tmp_path: Path, source: Path, config):
    assert compared(run_of(source, **config), tmp_path / "out", source) == {}


def test_an_image_that_the_plan_does_not_have_is_found(tmp_path: Path, source: Path):
    run = run_of(source)
    (source / "055.jpg").touch()

    assert compared(run, tmp_path / "out", source) == {Kind.NOT_PLANNED: (f"file://{source}/055.jpg",)}


def test_a_planned_image_that_is_gone_is_found(tmp_path: Path, source: Path):
    run = run_of(source)
    (source / "05.jpg").unlink()

    assert compared(run, tmp_path / "out", source) == {Kind.NOT_LISTED: (f"file://{source}/05.jpg",)}


def test_an_image_that_changed_since_it_was_planned_is_found(tmp_path: Path, source: Path):
    run = run_of(source)
    (source / "05.jpg").write_bytes(b"other")

    assert compared(run, tmp_path / "out", source) == {Kind.CHANGED: (f"file://{source}/05.jpg",)}


def test_an_emptied_source_has_none_of_the_planned_images(tmp_path: Path, source: Path):
    run = run_of(source)
    for image in source.iterdir():
        image.unlink()

    assert len(compared(run, tmp_path / "out", source)[Kind.NOT_LISTED]) == 3


def test_local_names_that_are_no_utf8_are_compared_as_they_are_spelled(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(audit_module, "_N_LISTED", 1)
    (source / os.fsdecode(b"05\xff.jpg")).touch()
    (source / "05ä.jpg").touch()

    assert compared(run_of(source), tmp_path / "out", source) == {}


def test_listings_longer_than_one_block_are_compared_to_their_end(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(audit_module, "_N_LISTED", 5)
    run = run_of(source)
    (source / "11.jpg").unlink()
    (source / "12.jpg").touch()

    assert set(compared(run, tmp_path / "out", source)) == {Kind.NOT_PLANNED, Kind.NOT_LISTED}


@pytest.mark.parametrize("record", [None, {}, {"config": {"include": []}}], ids=["missing", "empty", "other"])
def test_a_source_is_not_compared_where_run_json_does_not_tell_what_was_taken(tmp_path: Path, source: Path, record):
    run = run_of(source)
    run.record = record

    assert compared(run, tmp_path / "out", source)[Kind.NOT_COMPARED] == ()


# Random damage


def truncate(run: Run, draw: Any) -> None:
    name = draw(st.sampled_from(sorted(name for name in dict(run.stored()) if name.endswith(".parquet"))))
    data = dict(run.stored())[name]
    run.objects[name] = data[: draw(st.integers(0, len(data) - 1))]


def edit_rows(run: Run, draw: Any) -> None:
    rows = run.rows[draw(st.sampled_from(sorted(run.rows)))]
    row = draw(st.sampled_from(rows))
    other = run.rows[draw(st.sampled_from(sorted(run.rows)))]
    how = draw(st.sampled_from(["remove", "repeat", "etag", "rename", "move"]))
    if how in ("remove", "move", "etag", "rename"):
        rows.remove(row)
    added = {"repeat": row, "etag": replace(row, etag="?"), "rename": replace(row, image="?"), "move": row}
    if how in added:
        (other if how == "move" else rows).append(added[how])


def edit_plan(run: Run, draw: Any) -> None:
    index = draw(st.sampled_from(sorted(run.rows)))
    refs = list(run.part(index).refs)
    image = draw(st.sampled_from([image for page in run.pages for part in page for image in part.refs]))
    at = draw(st.integers(0, len(refs)))
    if at < len(refs) and draw(st.booleans()):
        del refs[at]
    else:
        refs.insert(at, image)
    run.replan(index, refs)


def is_sound(run: Run) -> bool:
    """Return by plain counting whether every planned image has exactly one row, in its part."""
    planned = Counter((part.index, *key(image)) for page in run.pages for part in page for image in part.refs)
    rows = Counter((index, row.image, row.etag, row.size_bytes) for index, rows in run.rows.items() for row in rows)
    images = Counter(image.url for page in run.pages for part in page for image in part.refs)
    return planned == rows and set(images.values()) <= {1}


def key(image: ImageRef) -> tuple[str, str, int]:
    return image.url, image.etag, image.size_bytes


SHAPES = st.builds(
    made, st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple), st.integers(1, 4), st.integers(1, 3)
)


@ANY_SIZE
@given(SHAPES, st.lists(st.sampled_from([edit_rows, edit_plan]), min_size=1, max_size=3), st.data())
def test_random_edits_of_plan_and_rows_are_found_just_where_plain_counting_finds_them(
    tmp_path_factory, run: Run, edits, data
):
    for edit in edits:
        if any(run.rows.values()) and all(run.rows.values()) and all(p.refs for page in run.pages for p in page):
            edit(run, data.draw)
    refs = [image for page in run.pages for part in page for image in part.refs]
    run.closed = {"n_images": len(refs), "n_parts": sum(bool(part.refs) for page in run.pages for part in page)}
    kinds = set(found(run, tmp_path_factory.mktemp("edited")))

    assert (kinds <= {Kind.UNSORTED}) == is_sound(run)


@ANY_SIZE
@given(SHAPES, st.data())
def test_an_object_cut_short_anywhere_is_always_found(tmp_path_factory, run: Run, data):
    truncate(run, data.draw)

    assert found(run, tmp_path_factory.mktemp("cut"))[Kind.UNREADABLE] == 1


@ANY_SIZE
@given(SHAPES, st.data())
def test_a_lost_object_is_always_found(tmp_path_factory, run: Run, data):
    folder = run.store(tmp_path_factory.mktemp("lost"))
    name = data.draw(st.sampled_from(sorted(dict(run.stored()))))
    (folder / name).unlink()

    assert list(audited(folder).findings) != []


# Streams


def table(images: list[str]) -> pa.Table:
    return pa.Table.from_arrays([images, images], schema=VERSIONS)


SORTED_PAGES = st.lists(st.text("abc", max_size=3), max_size=12, unique=True).map(sorted)


@ANY_SIZE
@given(st.lists(st.tuples(SORTED_PAGES, st.integers(1, 4)), max_size=4))
def test_merged_streams_lose_nothing_and_keep_each_image_in_one_block(streams):
    paged = [[images[i : i + size] for i in range(0, len(images), size)] for images, size in streams]

    blocks = [
        [share["image"].to_pylist() for share in block]
        for block in merged([iter(list(map(table, pages))) for pages in paged])
    ]

    for number, (images, _) in enumerate(streams):
        assert [image for block in blocks for image in block[number]] == images
    whole = [sorted(image for share in block for image in share) for block in blocks]
    assert all(before[-1] < after[0] for before, after in pairwise(whole))


@ANY_SIZE
@given(st.lists(st.lists(st.text("abcd", max_size=2), min_size=1, max_size=5), max_size=8))
def test_pages_left_out_of_the_second_look_hold_no_image_twice(pages):
    spans = [Span(i, min(page), max(page), len(set(page)) < len(page)) for i, page in enumerate(pages)]

    again = {span.page for span in crossing(spans)}

    counts = Counter(image for page in pages for image in page)
    assert {i for i, page in enumerate(pages) if any(counts[image] > 1 for image in page)} <= again
    for chain in chained(spans):
        assert all(one.last < other.first for one, other in pairwise(chain))


class Counted:
    """Objects in memory, which counts what is read at a time."""

    def __init__(self, run: Run) -> None:
        self.objects = dict(run.stored())
        self.reads: list[list[str]] = []

    def __call__(self, names):
        self.reads.append(list(names))
        return [self.objects[name] for name in names]

    def audit(self) -> Audit:
        audit = Audit(take_inventory(self.objects, Findings()), self, Findings())
        audit.run()
        return audit


def test_parts_are_read_a_few_at_a_time_and_a_plan_without_overlaps_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audit_module, "_N_PARTS", 4)
    read = Counted(made((60,), part_size=2, page_size=10))

    audit = read.audit()

    assert list(audit.findings) == []
    assert max(map(len, read.reads)) == 4
    assert max(Counter(name for names in read.reads for name in names).values()) == 1


def test_only_pages_that_overlap_are_looked_at_again():
    run = made((60,), part_size=2, page_size=10)
    late = ImageRef("s3://bucket/dogs/0030b.jpg", "etag-0", 1)
    run = Run(
        [*run.pages, [Part(30, (late,))]],
        run.rows | {30: [outcome(late, 0)]},
        run.fingerprints | {30: FINGERPRINT},
    )
    read = Counted(run)

    audit = read.audit()

    counts = Counter(name for names in read.reads for name in names)
    assert list(audit.findings) == []
    assert {name for name, n in counts.items() if n > 1} == {"plan/page-000001.parquet", "plan/page-000003.parquet"}


# The command


def test_a_folder_without_a_run_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith(f"error: file://{tmp_path}/nothing holds no run")


@pytest.mark.parametrize("args", [[], ["a", "b"], ["a", "--nonsense"]], ids=["none", "two", "unknown"])
def test_a_wrong_command_line_is_one_line_and_status_2(args, capsys: pytest.CaptureFixture[str]):
    status = main(args)

    err = capsys.readouterr().err
    assert status == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_storage_that_refuses_is_one_line_and_status_4(tmp_path: Path, monkeypatch, capsys):
    def refuse(*_: object) -> None:
        raise StorageError("cannot list s3://bucket: access denied")

    monkeypatch.setattr(command, "verify", refuse)

    assert main([str(tmp_path)]) == 4
    assert capsys.readouterr().err == "error: cannot list s3://bucket: access denied\n"


def test_an_object_that_goes_while_it_is_read_is_status_4(tmp_path: Path, monkeypatch, capsys):
    folder = made().store(tmp_path)
    names = list(command.Stored(resolve_url(str(folder)), StorageOptions()).names())
    monkeypatch.setattr(command.Stored, "names", lambda _: iter(names))
    (folder / "outcomes/part-000001.parquet").unlink()

    assert main([str(folder)]) == 4
    assert "somebody changing the destination" in capsys.readouterr().err


def test_a_fault_of_verify_itself_is_status_1_with_its_traceback_only_on_demand(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(command, "verify", lambda *_: 1 / 0)

    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: internal error: ZeroDivisionError: division by zero\n"
    assert main([str(tmp_path), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_names_out_of_a_bucket_cannot_begin_a_line_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = made()
    run.rows[3].append(replace(outcome(ref(0), 0), image="x\nproven       every planned image"))

    main([str(run.store(tmp_path))])

    assert "\nproven" not in capsys.readouterr().out


def test_a_destination_on_s3_is_proven_and_its_damage_found(bucket: str, capsys: pytest.CaptureFixture[str]):
    run, s3 = made((40, 7)), boto3.client("s3")
    for name, data in run.stored():
        s3.put_object(Bucket=bucket, Key=f"out/{name}", Body=data)

    proven = main([f"s3://{bucket}/out/"])
    s3.delete_object(Bucket=bucket, Key="out/outcomes/part-000007.parquet")
    damaged = main([f"s3://{bucket}/out"])

    assert (proven, damaged) == (0, 3)
    assert f"violated     {Kind.MISSING.words}: 2" in capsys.readouterr().out


def test_a_bucket_that_is_not_there_is_status_4(s3: str, capsys: pytest.CaptureFixture[str]):
    assert main(["s3://no-such-bucket-here/out"]) == 4
    assert "there is no such bucket" in capsys.readouterr().err
