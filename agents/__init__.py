"""The agents that steer a run."""
