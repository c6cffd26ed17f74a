"""How one chunk is computed: JAX, pure functions, no files.

May import `study`, and of `storage` the schema and the provenance of a chunk.
"""
