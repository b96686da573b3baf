"""The gallery: other mixture density networks, with the agent's mixture and MDN-RNN."""
