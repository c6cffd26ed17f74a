"""Statistics, theory and claims, with pandas and SciPy.

    intervals      estimates with confidence intervals     theory             linear models
    run_table      the runs of some blocks                 scale_sensitivity  leaderboard
    registry       of the measures                         attribution        importances
    metrics        one number a run, for claims            held_out           scores
    performance    the same, of loss and scores            replication        published results
    requirements   which runs a measure fits               summary            by condition
    tuning         choosing a learning rate                coverage           of the intervals
    claims         hypotheses of a study                   recorded           other frameworks
    samples        the values of a claim's cells           confidence         what they say
    verdicts       what the runs say of the claims         confirmation       on fresh seeds

May import `study` and `storage`; never JAX.
"""
