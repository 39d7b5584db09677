"""Whether strangers can listen to a cluster, or use it. Pure."""

import ipaddress

from pipeline.diagnosis.findings import Complaint, Finding, Level, findings
from pipeline.diagnosis.vitals import Patient


def encryption(patient: Patient) -> list[Finding]:
    """Find a scheduler that takes anybody's work, and in the clear."""
    is_safe = patient.address.startswith("tls://") or _is_on_this_machine(patient.address)
    complaint = Complaint(
        Level.WARNING,
        "scheduler",
        f"{patient.address} takes tasks from whoever reaches it, and nothing is encrypted",
        "give scheduler, workers and --tls-* options certificates, or keep the network closed",
    )
    told = "TLS" if patient.address.startswith("tls://") else "this machine only"
    return findings("encryption", [] if is_safe else [complaint], f"{patient.address}: {told}")


def _is_on_this_machine(address: str) -> bool:
    scheme, _, rest = address.partition("://")
    host = rest.rpartition(":")[0].strip("[]")
    if scheme == "inproc" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
