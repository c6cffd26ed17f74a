"""How a study is run: chunks submitted to devices, processes or a cluster, then stored.

May import `study`, `engine`, `storage` and `analysis`; not `report`.
"""
