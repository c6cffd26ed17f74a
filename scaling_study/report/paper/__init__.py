"""The report of a study that makes claims: verdicts, figures, methods and limits."""

CLAIMS = "claims.json"  # the claims with their verdicts, in the report's folder
