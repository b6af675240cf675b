"""Losses that train an embedding to tell classes apart, as pure functions of arrays."""
