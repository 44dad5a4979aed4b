"""The embedded engine: storage, dense, sparse, fusion, filter, text models and open cursors. No HTTP, no client."""
