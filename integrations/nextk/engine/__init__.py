"""The embedded engine: storage, dense and sparse search, fusion, filters, text models and open queries.

Nothing in here knows HTTP, the client or a framework.
"""
