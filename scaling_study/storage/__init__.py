"""Stored results: the layout of a results folder, its tables and its checksums.

May import `study`; never JAX, so that reports are made from files alone.
"""
