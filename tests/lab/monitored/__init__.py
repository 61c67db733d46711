"""One host with all of the monitoring; it goes when these tests are done."""
