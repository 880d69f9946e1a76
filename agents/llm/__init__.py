"""Observer, planner and critic that ask a language model, and what keeps that harmless."""
