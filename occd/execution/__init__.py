"""How one submission is run: its steps, in order, and the log of what they wrote."""
