"""The engine: model, vault, rendering, difference, snapshot, operations. No domain."""
