"""What trained models depend on: data, networks, attacks, losses, mining and the training loop.

Stages list this folder as one dependency, so a change here retrains every model and reruns all that follows.
"""
