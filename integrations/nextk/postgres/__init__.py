"""The engine interface on PostgreSQL with pgvector: a resumable query is a cursor of the server.

Nothing is imported here, so that `import nextk` needs neither psycopg nor a server.
"""
