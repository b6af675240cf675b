"""The page of a run: figures, excerpts of recordings, and the HTML file that holds them."""
