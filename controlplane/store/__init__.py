"""The edge outward: keeps the record. It never judges and never asks a device."""
