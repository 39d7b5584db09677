"""Whether a run may go on where another left off: one destination holds one source, one fingerprint, one plan."""

from collections.abc import Mapping
from typing import Any

from pipeline.config import RunConfig
from pipeline.destination import RUN_JSON, Destination
from pipeline.errors import UsageError
from pipeline.records import ModelSpec
from pipeline.running import provenance
from pipeline.running.fingerprint import differences, ingredients
from pipeline.stages.outcomes import BY_PATH
from pipeline.storage import redact


def stored_run(config: RunConfig, destination: Destination, source: str, spec: ModelSpec) -> Mapping[str, Any] | None:
    """Return what ``run.json`` says of the run to go on with, None where a new one is to begin.

    Raises
    ------
    UsageError
        If the destination holds another run. A precision of ``auto`` is not compared: it is not known yet.
    """
    stored = None if config.overwrite else destination.read_json(RUN_JSON)
    if stored is not None:
        ours = {name: value for name, value in ingredients(spec).items() if value != "auto"}
        _refuse_if_other(destination, stored, source, ours)
    return stored


def take_destination(
    config: RunConfig, destination: Destination, source: str, spec: ModelSpec, run_id: str, labels: str
) -> dict[str, Any]:
    """Return what ``run.json`` says from now on: ours where there was no run, else what the adopted run wrote.

    Of two runs that begin at the same time one writes it, and the other adopts it.

    Raises
    ------
    UsageError
        If the destination holds another run, or one that judges by other labels: it has just begun.
    """
    record = provenance.begin(run_id, config, source, spec, labels)
    if config.overwrite:
        destination.clear()
    if destination.write_new_json(RUN_JSON, record):
        return record
    stored = destination.read_json(RUN_JSON) or {}
    _refuse_if_other(destination, stored, source, {"labels": labels} | record["fingerprint_of"])
    destination.forget_signs()
    return stored | {"config": record["config"], "versions": record["versions"]}


def _refuse_if_other(
    destination: Destination, stored: Mapping[str, Any], source: str, decides: Mapping[str, Any]
) -> None:
    ours = {"source": redact(source), **decides}
    theirs = {
        "source": stored.get("source"),
        "labels": stored.get("labels", BY_PATH),
        **stored.get("fingerprint_of", {}),
    }
    differing = differences(ours, theirs)
    if differing:
        raise UsageError(
            f"{destination.url} holds run {stored.get('run_id')}, which has {'; '.join(differing)}: "
            "give another destination, or --overwrite to begin anew"
        )
