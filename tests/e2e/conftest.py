"""The lab's fixture, shared with the integration tests."""

from tests.integration.conftest import lab, whole_lab

__all__ = ["lab", "whole_lab"]
