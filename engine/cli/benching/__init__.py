"""What `cleave bench` and `make bench` measure with: processes to measure, scenarios, statistics, the result."""
