"""Room of PNN's outer product layer."""
