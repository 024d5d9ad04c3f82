"""EMR-readiness control plane: what was changed, whether it helped, and the proof of it."""

__version__ = "0.1.0"
