"""Everything on one machine: an embedded Redis, the simulator, the processes of the Procfile, and the demo."""
