"""The parts of scripts/fuzz.py: a pool that survives its cases, mutations, and one module for each family of input."""
