"""Room of multi-head attention: softmax over the kept keys, without the scores in the backward."""
