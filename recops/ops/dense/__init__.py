"""Room of the dense layer: product, bias and activation in one op."""
