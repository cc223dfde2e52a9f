"""The interface under ``/api/v1``, one module a noun; `matensemble.dashboard.app` puts it together.

A route validates what is asked, asks the catalog or an index, and shapes the answer. None of them
decides who may ask (`security`) or opens a file of a run itself.
"""
