"""The registry: every question that may be asked of a device, from explicit tuples. It refuses a double name."""

from __future__ import annotations

from controlplane.collect.facts import (
    linux_access,
    linux_agents,
    linux_backup,
    linux_database,
    linux_firewall,
    linux_guard,
    linux_hardening,
    linux_identity,
    linux_lists,
    linux_logging,
    linux_logsources,
    linux_monitoring,
    linux_network,
    linux_probe,
    linux_security_net,
    linux_software,
    linux_storage,
    linux_system,
    record_accounts,
    record_assets,
    record_backup,
    record_isolation,
    record_network,
    record_software,
    service_clinical,
    service_web,
    snmp_access,
    snmp_interfaces,
    snmp_printer,
    snmp_system,
    snmp_ups,
    snmp_vlan,
)
from controlplane.domain.model import Fact

SHELL_FACTS: tuple[Fact, ...] = (
    *linux_probe.FACTS,  # first, so that the probes of a round try at the same time
    *linux_system.FACTS,
    *linux_storage.FACTS,
    *linux_network.FACTS,
    *linux_access.FACTS,
    *linux_logging.FACTS,
    *linux_software.FACTS,
    *linux_hardening.FACTS,
    *linux_identity.FACTS,
    *linux_logsources.FACTS,
    *linux_agents.FACTS,
    *linux_guard.FACTS,
    *linux_lists.FACTS,
    *linux_backup.FACTS,
    *linux_database.FACTS,
    *linux_firewall.FACTS,
    *linux_security_net.FACTS,
    *linux_monitoring.FACTS,
)
"""The whole script of every look at a Linux host is made of these, in this order."""


SNMP_FACTS: tuple[Fact, ...] = (
    *snmp_system.FACTS,
    *snmp_interfaces.FACTS,
    *snmp_vlan.FACTS,
    *snmp_printer.FACTS,
    *snmp_ups.FACTS,
    *snmp_access.FACTS,
)
"""What devices are asked over SNMP, each kind only what it may have."""


SERVICE_FACTS: tuple[Fact, ...] = (*service_web.FACTS, *service_clinical.FACTS)
"""What a service is asked over the network; its ``emr_service`` says which of these it can answer."""


RECORD_FACTS: tuple[Fact, ...] = (
    *record_assets.FACTS,
    *record_software.FACTS,
    *record_accounts.FACTS,
    *record_network.FACTS,
    *record_isolation.FACTS,
    *record_backup.FACTS,
)
"""What the control plane derives itself from the inventory, the registers and the answers that stand."""


def _registry(*tuples: tuple[Fact, ...]) -> dict[str, Fact]:
    found: dict[str, Fact] = {}
    for fact in (fact for one in tuples for fact in one):
        if fact.name in found:
            raise ValueError(f"the fact {fact.name} stands twice in the registry")
        found[fact.name] = fact
    return found


FACTS: dict[str, Fact] = _registry(SHELL_FACTS, SNMP_FACTS, SERVICE_FACTS, RECORD_FACTS)
