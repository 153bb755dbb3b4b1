"""One file per claim: its protocol, its settings, and the rule of its verdict (`python -m experiments.claims`)."""
