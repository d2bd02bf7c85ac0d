"""What every benchmark shares: tasks, requests, the runner that answers them, records and options."""
