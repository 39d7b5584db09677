"""``python -m pipeline.doctor``: what is wrong with a cluster, and how to mend it, before anything is paid for."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import click

from cluster.connect import is_local
from pipeline.audience.console import print_line
from pipeline.audience.ending import carry_out, fail
from pipeline.audience.interrupt import stop_on_signals
from pipeline.config import RunConfig, configured_defaults, parameters
from pipeline.diagnosis.access import Errand, access
from pipeline.diagnosis.examination import admit, at_once, by_trying
from pipeline.diagnosis.findings import Finding, Level, counted
from pipeline.diagnosis.vitals import Vitals
from pipeline.errors import ClusterError, PipelineError, UsageError
from pipeline.records import ModelSpec
from pipeline.running.preflight import Ends, check_ends, check_model
from pipeline.running.provision import asked_for, cluster_options, connected_client, expect_workers
from pipeline.storage import options_from_environment

COMMAND = "python -m pipeline.doctor"

HEALTHY = 0
SICK = 2

_OPTIONS = (
    *("cluster", "workers", "min_workers", "threads_per_worker", "tls_ca_file", "tls_cert", "tls_key"),
    *("model", "weights", "categories", "anon", "requester_pays", "s3_client", "include", "exclude", "debug"),
)
"""Those of a run that decide what is looked at."""

T = TypeVar("T")


def main(args: list[str] | None = None) -> int:
    """Run the command and return its exit status; see ``--help``."""
    try:
        command = _command()
    except UsageError as error:  # of Dask's configuration
        return fail(str(error), UsageError.exit_status)
    return carry_out(command, COMMAND, args)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found."""

    findings: list[Finding] = field(default_factory=list)
    processes: list[Vitals] = field(default_factory=list)

    @property
    def status(self) -> int:
        """2 where there is a problem, else 0."""
        return SICK if any(finding.level is Level.PROBLEM for finding in self.findings) else HEALTHY


def diagnose(config: RunConfig) -> Diagnosis:
    """Return what is wrong, and what is not, with a cluster and the two ends of the pipe where they are named."""
    diagnosis, options = Diagnosis(), options_from_environment()
    has_ends = bool(config.source)
    ends = _tried(diagnosis, "storage", lambda: check_ends(config, options)) if has_ends else None
    spec = _tried(diagnosis, "weights", lambda: check_model(config, options)) if has_ends else None
    try:
        _examine(config, diagnosis, ends, spec)
    except ClusterError as error:
        diagnosis.findings.append(Finding(Level.PROBLEM, "cluster", str(error)))
    return diagnosis


def _examine(config: RunConfig, diagnosis: Diagnosis, ends: Ends | None, spec: ModelSpec | None) -> None:
    expect_workers(config)
    # A cluster that is there already is looked at as it is.
    options = cluster_options(config, asked_for(config), awaits_workers=is_local(config.cluster))
    with connected_client(options) as client:
        patient, found = admit(client, config.min_workers)
        diagnosis.processes.extend((patient.client, *patient.processes))
        diagnosis.findings.extend([*found, *at_once(patient)])
        if not patient.workers:
            return
        able, found = by_trying(client, patient)
        diagnosis.findings.extend(found)
        if ends is not None and spec is not None:
            image = next(ends.source.images()).url
            errand = Errand(image, ends.source.options, ends.destination, spec)
            diagnosis.findings.extend(access(client, able, errand))
        elif config.source:
            what = "not tried by the workers, since this client cannot use them itself"
            diagnosis.findings.append(Finding(Level.WARNING, "storage", what))


def _tried(diagnosis: Diagnosis, check: str, trial: Callable[[], T]) -> T | None:
    """Return what can be had from here, or take note of why it cannot."""
    try:
        return trial()
    except PipelineError as error:
        diagnosis.findings.append(Finding(Level.PROBLEM, check, str(error), where=("client",)))
        return None


def _command() -> click.Command:
    as_json = click.Option(["--json", "as_json"], is_flag=True, help="All that was found and told, for machines.")
    return click.Command(
        COMMAND,
        params=[*parameters(_OPTIONS, are_ends_needed=False), as_json],
        callback=_carry_out,
        help=_HELP,
        context_settings={"default_map": configured_defaults()},
    )


def _carry_out(source: str | None, destination: str | None, *, as_json: bool, **options: Any) -> int:
    if (source is None) != (destination is None):
        raise UsageError(f"SOURCE {source} without a DESTINATION: give both, or neither")
    config = RunConfig(source or "", destination or "", **options)
    with stop_on_signals():
        diagnosis = diagnose(config)
    if as_json:
        click.echo(json.dumps({"status": diagnosis.status} | asdict(diagnosis), indent=2))
    else:
        _print(diagnosis)
    return diagnosis.status


def _print(diagnosis: Diagnosis) -> None:
    for finding in diagnosis.findings:
        print_line(finding.level, f"{finding.check:<12} {finding}")
    counts = {level: sum(finding.level is level for finding in diagnosis.findings) for level in Level}
    nouns = {Level.PROBLEM: "problem", Level.WARNING: "warning", Level.OK: "passed check"}
    print_line("in all", ", ".join(counted(counts[level], noun) for level, noun in nouns.items()))


_HELP = """Say what is wrong with a cluster, and how to mend it.

With SOURCE and DESTINATION also whether each of its workers can read the one, write to the other, and have the weights.

It computes nothing and leaves nothing behind: at DESTINATION an empty object is written and deleted again.

Exit status: 0 nothing is wrong, or what is works all the same (warnings); 2 there is a problem, or bad usage.
"""


if __name__ == "__main__":
    sys.exit(main())
