"""Whether strangers can listen to a cluster, or use it. Asks the system what a host's name stands for."""

from cluster.security import is_open_to_strangers
from pipeline.diagnosis.findings import Complaint, Finding, Level, findings
from pipeline.diagnosis.vitals import Patient


def encryption(patient: Patient) -> list[Finding]:
    """Find a scheduler that takes anybody's work, and in the clear."""
    complaint = Complaint(
        Level.WARNING,
        "scheduler",
        f"{patient.address} takes tasks from whoever reaches it, and nothing is encrypted",
        "start scheduler and workers with --tls-ca-file, --tls-cert and --tls-key, and join it by tls://",
    )
    told = "TLS" if patient.address.startswith("tls://") else "this machine only"
    is_open = is_open_to_strangers(patient.address)
    return findings("encryption", [complaint] if is_open else [], f"{patient.address}: {told}")
