"""Room of the cross network of DCN (vector kernels) and DCNv2 (matrix kernels)."""
