"""From weights to rows: attacks, and what else is measured on trained networks."""
