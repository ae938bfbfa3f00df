"""Sensitivity: how much of the output's error each layer causes when only its weight is rounded, and which widths pay.

`report` holds what an analysis gives, light enough for a page; everything else needs torch and runs in a process of its own.
"""
