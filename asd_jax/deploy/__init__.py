"""Fitted systems at work: watching streams, serving requests, leaving for other programs."""
