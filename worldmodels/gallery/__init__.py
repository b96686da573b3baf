"""Relatives of the dream: other systems on the same mixture and the same MDN-RNN."""
