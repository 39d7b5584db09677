"""``python -m pipeline.verify DESTINATION``: prove that every planned image has exactly one row, or say why not."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from pipeline.audience.console import print_line
from pipeline.audience.ending import carry_out, fail
from pipeline.audit.audit import Audit
from pipeline.audit.findings import Finding, Findings, Kind, Severity
from pipeline.audit.inventory import take_inventory
from pipeline.errors import StorageError, UsageError
from pipeline.records import ImageRef
from pipeline.running.source import Source
from pipeline.stages.listing import Selection
from pipeline.storage import ReadFault, StorageOptions, join, open_storage, options_from_environment, resolve_url

COMMAND = "python -m pipeline.verify"
RUN = "python -m pipeline.run"

PROVEN = 0
NOT_PROVEN = 3


def main(args: list[str] | None = None) -> int:
    """Run the command and return its exit status; see ``--help``."""
    return carry_out(_command, COMMAND, args)


@dataclass(frozen=True, slots=True)
class Stored:
    """The objects below a folder."""

    url: str

    options: StorageOptions

    def names(self) -> Iterator[str]:
        """Yield the names of all objects below the folder, lazily."""
        for page in open_storage(self.url, self.options).list_pages(self.url):
            yield from (entry.url[len(self.url) + 1 :] for entry in page)

    def read(self, names: Sequence[str]) -> list[bytes]:
        """Return objects by their names, in order; raises `StorageError` if one cannot be read."""
        urls = [join(self.url, name) for name in names]
        bodies = open_storage(self.url, self.options).read_many([(url, "") for url in urls])
        for url, body in zip(urls, bodies, strict=True):
            if isinstance(body, ReadFault):
                raise StorageError(f"cannot read {url}: {body.reason}; is somebody changing the destination?")
        return [body for body in bodies if isinstance(body, bytes)]


def verify(destination: str, source: str | None, source_options: StorageOptions) -> Audit:
    """Return the audit of a destination, once everything was looked at.

    Raises
    ------
    UsageError
        If no run stands there.
    StorageError
        If something cannot be reached, or not with these rights.
    """
    stored, findings = Stored(resolve_url(destination), options_from_environment()), Findings()
    inventory = take_inventory(stored.names(), findings)
    if inventory.is_empty:
        raise UsageError(f"{stored.url} holds no run: expected plan/, outcomes/ and run.json below it")
    audit = Audit(inventory, stored.read, findings)
    audit.run()
    if source is not None:
        _compare_source(audit, source, source_options)
    return audit


def _compare_source(audit: Audit, source: str, options: StorageOptions) -> None:
    selection = _selection(source, audit.record)
    if selection is None:
        audit.findings.add(Kind.NOT_COMPARED, [], 1)
        return
    listed = Source(selection, options).images()
    audit.compare_source(_in_order(listed) if selection.folder.startswith("file://") else listed)


def _in_order(listed: Iterator[ImageRef]) -> list[ImageRef]:
    """Sort a disk's listing, which is in memory anyway, as the plan spells it: names that are no UTF-8 move."""
    return sorted(listed, key=lambda ref: ref.url.encode("utf-8", "backslashreplace"))


def _selection(source: str, record: Any) -> Selection | None:
    """Return what a run took of a source, None where run.json does not tell."""
    try:
        config = record["config"]
        include, exclude = tuple(config["include"]), tuple(config["exclude"])
        return Selection(resolve_url(source), include, exclude, config["limit"])
    except (KeyError, TypeError):
        return None


@click.command(COMMAND)
@click.argument("destination")
@click.option("--source", help="Hold the plan also against what SOURCE lists now, narrowed as the run was.")
@click.option("--anon", is_flag=True, help="Read SOURCE without credentials, as public buckets allow.")
@click.option("--requester-pays", is_flag=True, help="Agree to pay for reading SOURCE.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def _command(destination: str, source: str | None, anon: bool, requester_pays: bool) -> int:
    """Prove that every planned image has exactly one row in DESTINATION, or say what stands against it.

    Plan, outcomes and run.json are read anew and held against each other; nothing is changed.

    Exit status: 0 proven; 1 internal error; 2 bad usage; 3 not proven; 4 storage or credentials; 130 stopped.
    """
    options = options_from_environment(anon=anon, requester_pays=requester_pays)
    return _tell(resolve_url(destination), verify(destination, source, options))


def _tell(destination: str, audit: Audit) -> int:
    """Print what was found, and return the exit status that it comes to."""
    recount = audit.recount
    print_line("destination", destination)
    print_line("planned", f"{audit.n_planned:,} images in {audit.n_parts:,} parts")
    print_line("rows", f"{recount.n_rows:,}: {recount.n_ok:,} ok, {recount.n_rows - recount.n_ok:,} failed")
    findings = list(audit.findings)
    for finding in findings:
        print_line(_label(finding, is_marked=audit.inventory.is_marked), _sentence(finding))
    against = [finding for finding in findings if finding.kind.severity is not Severity.NOTE]
    if not against:
        print_line("proven", "every planned image has exactly one row")
        return PROVEN
    return fail(f"not proven: {_verdict(audit, against)}", NOT_PROVEN)


def _verdict(audit: Audit, against: list[Finding]) -> str:
    n_missing, is_closed = audit.findings.count(Kind.MISSING), audit.inventory.is_closed
    if audit.inventory.is_marked or (is_closed and not n_missing):
        return f"{len(against)} kind{'s' if len(against) > 1 else ''} of findings, listed above"
    return (
        f"{n_missing:,} of {audit.n_planned:,} planned images have no row"
        f"{'' if is_closed else ', and the listing did not end'}; the same {RUN} command resumes the run"
    )


def _label(finding: Finding, *, is_marked: bool) -> str:
    """Return what a finding does to the proof; a run that is marked as complete cannot be unfinished."""
    is_broken = is_marked and finding.kind.severity is Severity.UNFINISHED
    return (Severity.VIOLATED if is_broken else finding.kind.severity).value


def _sentence(finding: Finding) -> str:
    if not finding.examples:
        return finding.kind.words
    more = "; ..." if finding.n > len(finding.examples) else ""
    return f"{finding.kind.words}: {finding.n:,} ({'; '.join(finding.examples)}{more})"


if __name__ == "__main__":
    sys.exit(main())
