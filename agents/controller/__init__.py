"""The controller: the process beside each trainer that runs the agents."""
