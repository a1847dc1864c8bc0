"""Library of the TLA reproduction: attacks, losses, mining, training, evaluation and statistics."""
