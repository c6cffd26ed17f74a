"""How one chunk is computed: JAX, pure functions, no files."""
