"""The agents that steer a run, and the command line that starts everything."""
