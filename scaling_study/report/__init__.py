"""How results are shown: tables, figures and pages, from stored results alone.

May import `study`, `storage` and `analysis`; never JAX.
"""
