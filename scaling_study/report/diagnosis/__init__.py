"""The report on a user's own table: whether, and how, its columns should be scaled."""
