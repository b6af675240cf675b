"""Services below everything: files, progress, signals, compilation, processes."""
