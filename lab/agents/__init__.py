"""SNMP agents that a host's snmpd calls (pass_persist); they refuse every write."""
