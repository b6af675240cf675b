"""From a detector and normal clips to a fitted detector that scores new recordings."""
