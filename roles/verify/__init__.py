"""The proof of a deployed host: one collection, probes from outside, and the report. Read-only."""
