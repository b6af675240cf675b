"""A run directory: which clips it uses, its features, its plan, its report."""
