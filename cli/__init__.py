"""The command line of Rudder: commands, and what a person sees."""
