"""Weights: whatever decides how a model is trained. A change here trains every model again."""
