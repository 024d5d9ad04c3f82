"""The workbook in which a hospital confirms a framework's criteria from its official copy: written here, read here.

It touches no store: a framework document goes in and bytes come out, bytes come in and a preview goes out.
"""

from controlplane.sheets.form import Added, Bad, Change, Preview
from controlplane.sheets.read import read_sheet
from controlplane.sheets.write import export_framework

__all__ = ["Added", "Bad", "Change", "Preview", "export_framework", "read_sheet"]
