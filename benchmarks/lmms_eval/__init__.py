"""The bridge to lmms-eval, which holds the published sets on general understanding."""
