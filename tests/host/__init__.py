"""The proof of any deployed host, lab and production alike: make verify."""
