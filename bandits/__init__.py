"""Contextual bandits: policies, slates with exact propensities, off-policy evaluation."""
