"""Running a study: chunks are computed by devices, processes or a cluster, then stored.

May import `study`, `engine`, `storage` and `analysis`; not `report`.
"""
