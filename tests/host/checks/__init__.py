"""The checks of the scorecard that hold for any host, whoever deployed it: make report."""
