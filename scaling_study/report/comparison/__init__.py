"""The page of two results folders that are compared."""
