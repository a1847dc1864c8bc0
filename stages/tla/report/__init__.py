"""From rows to numbers, tables, figures and pages. Imports no torch."""
