"""Doubles of programs that no reachable index carries: their wire contract, not their code."""
