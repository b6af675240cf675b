"""Features of many clips: computed once on the device, kept on disk, read in even batches."""
