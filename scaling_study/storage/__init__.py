"""How results are stored and read: the layout of a folder, its tables and its checksums.

May import `study`; never JAX, so that a report is rebuilt from files alone.
"""
