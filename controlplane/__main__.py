"""``python -m controlplane``: the same program as ``emrctl``."""

from controlplane.cli import main

main()
