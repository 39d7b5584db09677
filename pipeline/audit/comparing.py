"""Two tables that should name the same images, held against each other. Pure."""

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.audit.findings import MAX_EXAMPLES, Findings, Kind


def compare_with_rows(planned: pa.Table, rows: pa.Table, findings: Findings) -> None:
    """Find what keeps the rows of a part from being one for each image that is planned for it."""
    at = pc.index_in(rows["image"], value_set=planned["image"])
    is_planned = pc.is_valid(at)
    known, expected = rows.filter(is_planned), planned.take(at.drop_null())
    is_stale = pc.or_(
        pc.not_equal(known["etag"], expected["etag"]), pc.not_equal(known["size_bytes"], expected["size_bytes"])
    )
    add_images(findings, Kind.MISSING, _without(planned, rows))
    add_images(findings, Kind.UNPLANNED, rows["image"].filter(pc.invert(is_planned)))
    add_images(findings, Kind.REPEATED, repeated(rows["image"]))
    add_images(findings, Kind.STALE, known["image"].filter(is_stale))


def compare_with_listing(planned: pa.Table, listed: pa.Table, findings: Findings) -> None:
    """Find what keeps the plan from being what SOURCE holds now."""
    at = pc.index_in(planned["image"], value_set=listed["image"])
    is_listed = pc.is_valid(at)
    both, now = planned.filter(is_listed), listed.take(at.drop_null())
    add_images(findings, Kind.NOT_PLANNED, _without(listed, planned))
    add_images(findings, Kind.NOT_LISTED, planned["image"].filter(pc.invert(is_listed)))
    add_images(findings, Kind.CHANGED, both["image"].filter(pc.not_equal(both["etag"], now["etag"])))


def repeated(images: pa.ChunkedArray) -> pa.Array:
    """Return the images that occur more than once, each once."""
    counts = pc.value_counts(images)
    return counts.field("values").filter(pc.greater(counts.field("counts"), 1))


def add_images(findings: Findings, kind: Kind, images: pa.ChunkedArray) -> None:
    """Count each of the images as a finding."""
    findings.add(kind, images[:MAX_EXAMPLES].to_pylist(), len(images))


def _without(table: pa.Table, other: pa.Table) -> pa.ChunkedArray:
    """Return the images of a table that another one does not have."""
    return table["image"].filter(pc.invert(pc.is_in(table["image"], value_set=other["image"])))
