"""The lab's fixture, shared with the integration tests."""

from tests.integration.conftest import lab

__all__ = ["lab"]
