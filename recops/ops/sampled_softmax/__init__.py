"""Room of the softmax over sampled candidates, and over the other items of a batch."""
