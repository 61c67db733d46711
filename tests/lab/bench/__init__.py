"""How long a deploy takes, as ratios in one run: against the floor, and against Ansible."""
