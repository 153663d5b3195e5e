"""Room of the GRU over a sequence and its attentional forms: AIGRU, AGRU, AUGRU."""
