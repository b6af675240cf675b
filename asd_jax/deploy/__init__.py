"""Use of fitted systems outside the laboratory."""
