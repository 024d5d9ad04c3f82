"""The workbook in which a hospital confirms a framework's criteria from its official copy: written here, read here.

It touches no store: a framework document goes in and bytes come out, bytes come in and a preview goes out.
Nothing is imported here: openpyxl is slow to load, and most verbs never see a workbook.
"""
