"""The same systems in PyTorch and Keras, to compare with."""
