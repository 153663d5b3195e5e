"""Room of AFM's attentional pooling."""
