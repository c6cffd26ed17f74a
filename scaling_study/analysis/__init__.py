"""Statistics, theory and claims, with pandas and SciPy.

    intervals      estimates with confidence intervals     theory             linear models
    run_table      the runs of some blocks                 scale_sensitivity  leaderboard
    metrics        one number a run, for claims            attribution        importances
    requirements   which runs a metric fits                held_out           scores
    tuning         choosing a learning rate                replication        published results
    claims         hypotheses of a study                   summary            by condition
    verdicts       what the runs say of them               coverage           of the intervals

May import `study` and `storage`; never JAX.
"""
