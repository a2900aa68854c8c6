"""The two ways to have requests answered: one call each (`online`), or by the Batch API (`batch`)."""
