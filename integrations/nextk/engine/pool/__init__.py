"""The pool of a large dense search: candidates are found by compressed vectors, and scored by the vectors themselves.

Nothing here imports faiss before codes are trained, because it is an optional dependency.
"""
